// How fast one process of this machine can send to another one.
#pragma once

namespace switchyard {

// Bytes/s of one TCP connection over the loopback interface, sender and receiver in threads of their own, as Gloo's
// connections between the ranks of a machine: the best of three times 64 MiB. Throws DistributedError.
double measure_loopback_bandwidth();

}  // namespace switchyard
