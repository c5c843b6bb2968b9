#include "base/system.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>

namespace switchyard {
namespace {

TEST(System, CoresAreThoseThatMayBeUsed) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(allowed_cores(), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++core) {
    if (CPU_ISSET(core, &before)) CPU_SET(core, &one);
  }
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(allowed_cores(), 1);
  ::sched_setaffinity(0, sizeof before, &before);
}

TEST(System, ThreadsThatTheEnvironmentAsksFor) {
  const auto with = [](const char* threads, const char* torchrun) {
    threads == nullptr ? ::unsetenv("OMP_NUM_THREADS") : ::setenv("OMP_NUM_THREADS", threads, 1);
    torchrun == nullptr ? ::unsetenv("TORCHELASTIC_RUN_ID") : ::setenv("TORCHELASTIC_RUN_ID", torchrun, 1);
    return threads_of_environment();
  };
  EXPECT_EQ(with("3", nullptr), 3);
  EXPECT_EQ(with("1", nullptr), 1);
  EXPECT_EQ(with("4,2", nullptr), 4);
  for (const char* none : {"", "0", "-1", "many", "2x"}) EXPECT_EQ(with(none, nullptr), std::nullopt) << none;
  EXPECT_EQ(with("1", "none"), std::nullopt);  // torchrun's own, where the user said nothing
  EXPECT_EQ(with("2", "none"), 2);
  EXPECT_EQ(with(nullptr, nullptr), std::nullopt);
}

}  // namespace
}  // namespace switchyard
