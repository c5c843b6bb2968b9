#include "ops/waiting_threads.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include "ops/grouped_mlp.h"
#include "tests/support/operation.h"

namespace switchyard::test {
namespace {

namespace fs = std::filesystem;

// A variable of the environment, as it was again at the end.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

int64_t count_threads() { return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator()); }

bool sleeps(int64_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return text.at(text.rfind(')') + 2) == 'S';
}

double processor_seconds(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// The processor time that a team's second thread takes from a region's end until it sleeps: how long it spins, whatever
// else the machine does. The least of several, since a page fault or a virtual machine may add to one.
double seconds_of_spinning() {
  double least = 1e9;
  for (int i = 0; i < 10; ++i) {
    int64_t thread = 0;
    clockid_t clock{};
    double before = 0;
#pragma omp parallel num_threads(2)
    if (omp_get_thread_num() == 1) {
      thread = ::gettid();
      ::pthread_getcpuclockid(::pthread_self(), &clock);
      before = processor_seconds(clock);
    }
    while (!sleeps(thread)) std::this_thread::yield();
    least = std::min(least, processor_seconds(clock) - before);
  }
  return least;
}

// Whether the test that is running passes in a program of its own, whose environment says nothing of waiting: the
// library took what it held when this one began.
bool passes_without_variables() {
  const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
  const std::string program = fs::read_symlink("/proc/self/exe");
  const std::string name = std::string(test.test_suite_name()) + "." + test.name();
  const std::string words = "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT '" + program + "' --gtest_filter=" + name;
  return std::system(words.c_str()) == 0;
}

TEST(WaitingThreads, TheEnvironmentDecides) {
  const Variable no_policy("OMP_WAIT_POLICY", nullptr), no_count("GOMP_SPINCOUNT", nullptr);
  EXPECT_FALSE(environment_sets_waiting());
  const int64_t before = count_threads();
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}) {
    const Variable set(name, name[0] == 'O' ? "active" : "300000");
    EXPECT_TRUE(environment_sets_waiting()) << name;
    share_cores();
    EXPECT_EQ(count_threads(), before) << name;
  }
}

// In a process of its own, since what it starts stays. Leaving must not wait for it, nor for a team.
TEST(WaitingThreadsDeathTest, AProgramThatIsWatchedEnds) {
  if (environment_sets_waiting()) {
    EXPECT_TRUE(passes_without_variables());
    return;
  }
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto program = [] {
    const int64_t before = count_threads();
    share_cores();
    const bool watched = count_threads() > before;
    new SleepingTeam;
    std::exit(watched ? 0 : 1);
  };
  EXPECT_EXIT(program(), ::testing::ExitedWithCode(0), "");
}

TEST(WaitingThreads, SpinForShortBesideASleepingTeam) {
  if (environment_sets_waiting()) {
    EXPECT_TRUE(passes_without_variables());
    return;
  }
  const double before = seconds_of_spinning();
  std::optional<SleepingTeam> team(std::in_place);
  const double during = seconds_of_spinning();
  team.reset();
  // 300,000 times instead of 100.
  EXPECT_GT(before, 10 * during);
  EXPECT_GT(seconds_of_spinning(), 10 * during);
}

TEST(WaitingThreads, SleepUntilThereHasBeenEnoughOfEveryCore) {
  Crowding crowding;
  EXPECT_FALSE(crowding.after(0.1, 0.01));
  EXPECT_TRUE(crowding.after(0.1, 0.05));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(crowding.after(0.5, 0.01));
  EXPECT_TRUE(crowding.after(0.5, 0.25));  // begins anew
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(crowding.after(0.5, 0.01));
  EXPECT_FALSE(crowding.after(0.5, 0.01));
  EXPECT_FALSE(crowding.after(0.1, 0.01));
  EXPECT_TRUE(crowding.after(0.1, 0.1));
}

TEST(WaitingThreads, ResultsStayTheSameBits) {
  const auto x = random_tensor({300, 64}, 1, torch::kFloat32);
  const MlpWeights weights{.up = random_tensor({2, 96, 64}, 2, torch::kFloat32),
                           .down = random_tensor({2, 64, 48}, 3, torch::kFloat32)};
  const int before = at::get_num_threads();
  Tensors results;
  std::optional<SleepingTeam> team;
  for (const bool sleep : {false, true}) {
    if (sleep) team.emplace();
    for (const int threads : {1, 2}) {
      at::set_num_threads(threads);
      results.push_back(grouped_mlp(x, integers({140, 300}), weights, Activation::kSwiGlu));
    }
  }
  at::set_num_threads(before);
  for (const torch::Tensor& result : results) EXPECT_TRUE(identical(result, results.front()));
}

}  // namespace
}  // namespace switchyard::test
