// The memory of the machine.
#pragma once

namespace switchyard {

// Bytes that programs can still take without swapping, as the system estimates it (MemAvailable of /proc/meminfo);
// infinite where it does not tell.
double available_memory_bytes();

}  // namespace switchyard
