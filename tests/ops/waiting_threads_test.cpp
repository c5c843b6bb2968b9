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

TEST(WaitingThreads, TheEnvironmentDecides) {
  const Variable no_policy("OMP_WAIT_POLICY", nullptr), no_count("GOMP_SPINCOUNT", nullptr);
  EXPECT_FALSE(environment_sets_waiting());
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}) {
    const Variable set(name, name[0] == 'O' ? "active" : "300000");
    EXPECT_TRUE(environment_sets_waiting()) << name;
    const int64_t before = count_threads();
    let_waiting_threads_sleep();
    EXPECT_EQ(count_threads(), before) << name;
  }
}

// The library took what the environment held when this program began, so that must be nothing.
TEST(WaitingThreads, SleepSoonAfterTheyAreTold) {
  if (environment_sets_waiting()) GTEST_SKIP() << "the environment says how threads wait";
  let_waiting_threads_sleep();
  const int64_t threads = count_threads();
  let_waiting_threads_sleep();
  EXPECT_EQ(count_threads(), threads);
  // Told nothing, a thread spins 300,000 times, which no processor does in 1 ms; told, 100 times.
  EXPECT_LT(seconds_of_spinning(), 1e-3);
}

TEST(WaitingThreads, ResultsStayTheSameBits) {
  const auto x = random_tensor({300, 64}, 1, torch::kFloat32);
  const MlpWeights weights{.up = random_tensor({2, 96, 64}, 2, torch::kFloat32),
                           .down = random_tensor({2, 64, 48}, 3, torch::kFloat32)};
  const int before = at::get_num_threads();
  Tensors results;
  for (const bool told : {false, true}) {
    if (told) let_waiting_threads_sleep();
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
