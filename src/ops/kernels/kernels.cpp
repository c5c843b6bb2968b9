#include "ops/kernels/kernels.h"

namespace switchyard::kernels {

#define SWITCHYARD_DECLARE(isa)               \
  extern const Kernels<float> kFloat_##isa;   \
  extern const Kernels<double> kDouble_##isa; \
  extern const Kernels<Bf16> kBf16_##isa;
SWITCHYARD_DECLARE(baseline)
#ifdef __x86_64__
SWITCHYARD_DECLARE(avx2)
SWITCHYARD_DECLARE(avx512)
SWITCHYARD_DECLARE(avx512bf16)
#endif

namespace {

enum class InstructionSet { kBaseline, kAvx2, kAvx512, kAvx512Bf16 };

InstructionSet detect() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")) {
    return __builtin_cpu_supports("avx512bf16") ? InstructionSet::kAvx512Bf16 : InstructionSet::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    return InstructionSet::kAvx2;
  }
#endif
  return InstructionSet::kBaseline;
}

const InstructionSet kDetected = detect();

template <class T>
const Kernels<T>& choose([[maybe_unused]] const Kernels<T>& avx512bf16, [[maybe_unused]] const Kernels<T>& avx512,
                         [[maybe_unused]] const Kernels<T>& avx2, const Kernels<T>& baseline) {
  switch (kDetected) {
    case InstructionSet::kAvx512Bf16:
      return avx512bf16;
    case InstructionSet::kAvx512:
      return avx512;
    case InstructionSet::kAvx2:
      return avx2;
    case InstructionSet::kBaseline:
      break;
  }
  return baseline;
}

}  // namespace

#ifdef __x86_64__
#define SWITCHYARD_CHOOSE(type) choose(type##_avx512bf16, type##_avx512, type##_avx2, type##_baseline)
#else
#define SWITCHYARD_CHOOSE(type) choose(type##_baseline, type##_baseline, type##_baseline, type##_baseline)
#endif

template <>
const Kernels<float>& kernels<float>() {
  return SWITCHYARD_CHOOSE(kFloat);
}
template <>
const Kernels<double>& kernels<double>() {
  return SWITCHYARD_CHOOSE(kDouble);
}
template <>
const Kernels<Bf16>& kernels<Bf16>() {
  return SWITCHYARD_CHOOSE(kBf16);
}

const char* instruction_set() {
  switch (kDetected) {
    case InstructionSet::kAvx512Bf16:
      return "avx512bf16";
    case InstructionSet::kAvx512:
      return "avx512";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kBaseline:
      break;
  }
  return "baseline";
}

std::vector<const char*> compiled_instruction_sets() {
#ifdef __x86_64__
  return {"baseline", "avx2", "avx512", "avx512bf16"};
#else
  return {"baseline"};
#endif
}

}  // namespace switchyard::kernels
