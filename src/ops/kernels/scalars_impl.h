// Loading, storing and the exponential function, for the files that are compiled once per instruction set and for
// devices (src/ops/cuda); in an unnamed namespace, so that no copy made for one processor is called by another.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/kernels/host_device.h"
#include "ops/kernels/kernels.h"

namespace switchyard::kernels {
namespace {

SWITCHYARD_HD inline float load(float value) { return value; }
SWITCHYARD_HD inline double load(double value) { return value; }
SWITCHYARD_HD inline float load(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

SWITCHYARD_HD inline void store(float* target, float value) { *target = value; }
SWITCHYARD_HD inline void store(double* target, double value) { *target = value; }
// Round to nearest even; NaN stays NaN.
SWITCHYARD_HD inline void store(Bf16* target, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  target->bits = static_cast<uint16_t>(value != value ? 0x7fc0U : rounded);
}

// e^x to about one unit in the last place (range reduction by ln 2, degree-6 polynomial), written so that it
// vectorises.
inline float exponential(float x) {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  const float n = std::nearbyintf(x * 1.44269504F);
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}
inline double exponential(double x) { return std::exp(x); }

template <class A>
inline A sigmoid(A x) {
  return A(1) / (A(1) + exponential(-x));
}

}  // namespace
}  // namespace switchyard::kernels
