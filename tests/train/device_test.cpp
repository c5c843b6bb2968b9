#include <gtest/gtest.h>

#include "base/errors.h"
#include "parallel/world.h"
#include "train/setup.h"

namespace switchyard::device_test {
namespace {

// A machine with `count` GPUs that remembers which ones became current.
struct Machine {
  explicit Machine(int count) : gpus{count, [this](torch::Device device) { selected.push_back(device.str()); }} {}
  std::vector<std::string> selected;
  Gpus gpus;
};

TEST(ChooseDevice, EveryLocalRankHasAGpuOfItsOwn) {
  Machine machine(4);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(choose_device(DeviceKind::kAuto, rank, machine.gpus).str(), "cuda:" + std::to_string(rank));
  }
  EXPECT_EQ(machine.selected, (std::vector<std::string>{"cuda:0", "cuda:1", "cuda:2", "cuda:3"}));
  EXPECT_THROW(choose_device(DeviceKind::kAuto, 4, machine.gpus), ConfigError);
  EXPECT_EQ(machine.selected.size(), 4U);
}

TEST(ChooseDevice, WithoutAGpuOrAskedForTheCpu) {
  Machine none(0), two(2);
  EXPECT_EQ(choose_device(DeviceKind::kAuto, 1, none.gpus).str(), "cpu");
  EXPECT_EQ(choose_device(DeviceKind::kCpu, 1, two.gpus).str(), "cpu");
  EXPECT_THROW(choose_device(DeviceKind::kCuda, 0, none.gpus), ConfigError);
  EXPECT_TRUE(two.selected.empty());
}

TEST(ChooseDevice, ARankCarriesTheOneItJoinedWith) {
  const torch::Device device(torch::kCUDA, 3);
  EXPECT_EQ(World::join({}, {}, device)->device(), device);
  EXPECT_EQ(World::alone()->device(), torch::Device(torch::kCPU));
}

}  // namespace
}  // namespace switchyard::device_test
