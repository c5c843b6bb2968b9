#include "parallel/agree.h"

#include <chrono>
#include <future>

#include "base/errors.h"

namespace switchyard {

using torch::Tensor;

namespace {

Tensor bytes_of(const std::string& text) {
  return torch::from_blob(const_cast<char*>(text.data()), {static_cast<int64_t>(text.size())}, torch::kUInt8).clone();
}

}  // namespace

std::string rank_list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

Tensor gather_rows(Group& group, const Tensor& row) {
  const Tensor rows = torch::empty({group.size(), row.size(0)}, row.options());
  group.all_gather(rows.flatten(), row).wait();
  return rows;
}

std::vector<std::string> gather_texts(Group& group, const std::string& text) {
  const auto size = static_cast<int64_t>(text.size());
  const Tensor lengths = gather_rows(group, torch::tensor({size}, torch::kInt64));
  const int64_t longest = std::max<int64_t>(1, lengths.max().item<int64_t>());
  Tensor own = torch::zeros({longest}, torch::kUInt8);
  own.narrow(0, 0, size).copy_(bytes_of(text));
  const Tensor gathered = gather_rows(group, own);
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    const auto* begin = reinterpret_cast<const char*>(gathered.const_data_ptr<uint8_t>() + rank * longest);
    texts.emplace_back(begin, static_cast<size_t>(lengths[rank][0].item<int64_t>()));
  }
  return texts;
}

void require_same(Group& group, const std::string& what, const std::string& text) {
  const std::vector<std::string> texts = gather_texts(group, text);
  std::vector<int> others;
  for (int other = 0; other < group.size(); ++other) {
    if (texts[static_cast<size_t>(other)] != texts[0]) others.push_back(other);
  }
  if (others.empty()) return;
  throw DistributedError(rank_list(others) + " started with another " + what +
                         " than rank 0: all ranks must be started alike");
}

namespace {

// How long a rank that works lets the others wait for a sign of life.
constexpr auto kSignOfLife = std::chrono::milliseconds(200);

bool all_are(Group& group, bool done) {
  const torch::Tensor count = torch::full({1}, done ? 1.0 : 0.0, torch::kFloat64);
  group.all_reduce(count).wait();
  return count.item<double>() == group.size();
}

// Runs `action` here, and returns when it has ended on all ranks. It has a thread of its own, while those of all ranks
// meet again and again: it may take longer than the time after which a silent rank counts as lost.
std::exception_ptr run_among(Group& group, bool here, const std::function<void()>& action) {
  std::exception_ptr thrown;
  const auto caught = [&] {
    try {
      if (here) action();
    } catch (const std::exception&) {
      thrown = std::current_exception();
    }
  };
  if (group.size() == 1 || !here) {
    caught();
    while (group.size() > 1 && !all_are(group, true)) {
    }
  } else {
    const std::future<void> work = std::async(std::launch::async, caught);
    while (!all_are(group, work.wait_for(kSignOfLife) == std::future_status::ready)) {
    }
    work.wait();
  }
  return thrown;
}

}  // namespace

void run_where(Group& group, bool here, const std::function<void()>& action) {
  const std::exception_ptr own = run_among(group, here, action);
  std::string problem;
  if (own) {
    try {
      std::rethrow_exception(own);
    } catch (const std::exception& error) {
      problem = error.what();
      if (problem.empty()) problem = "an error without a message";
    }
  }
  const std::vector<std::string> problems = gather_texts(group, problem);
  if (own) std::rethrow_exception(own);
  for (int other = 0; other < group.size(); ++other) {
    const std::string& text = problems[static_cast<size_t>(other)];
    if (!text.empty()) throw DistributedError("rank " + std::to_string(other) + " stopped: " + text);
  }
}

void on_first(Group& group, const std::function<void()>& action) { run_where(group, group.rank() == 0, action); }

std::string from_first(Group& group, const std::function<std::string()>& action) {
  std::string text;
  on_first(group, [&] { text = action(); });
  return gather_texts(group, text)[0];
}

}  // namespace switchyard
