#include "parallel/agree.h"

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

void run_where(Group& group, bool here, const std::function<void()>& action) {
  std::string problem;
  std::exception_ptr own;
  if (here) {
    try {
      action();
    } catch (const std::exception& error) {
      own = std::current_exception();
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
