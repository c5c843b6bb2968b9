#include "base/memory.h"

#include <fstream>
#include <limits>
#include <string>

namespace switchyard {

double available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  double kilobytes = 0;
  while (file >> name >> kilobytes) {
    std::getline(file, unit);
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  return std::numeric_limits<double>::infinity();
}

}  // namespace switchyard
