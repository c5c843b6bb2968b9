// Small things that the ranks of a group tell each other, over collectives of CPU tensors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/group.h"

namespace switchyard {

// Every rank's `row` [n], one below the other in rank order: [R, n]. Collectives: an all-gather of `group`, which must
// be one for CPU tensors.
torch::Tensor gather_rows(Group& group, const torch::Tensor& row);

// Every rank's text, in rank order. Collectives: two all-gathers of `group`, which must be one for CPU tensors.
std::vector<std::string> gather_texts(Group& group, const std::string& text);

// Throws DistributedError naming the ranks whose `text` is not rank 0's. `what` names it, such as "configuration".
// Collectives: as gather_texts().
void require_same(Group& group, const std::string& what, const std::string& text);

// Runs `action` on the ranks where `here`, then goes on together; what it throws there comes out there, and as a
// DistributedError with the same message on all others. It may take as long as it likes, in a thread of its own, and
// must not use `group`. Collectives: all-reduces while it runs, then as gather_texts().
void run_where(Group& group, bool here, const std::function<void()>& action);

// The same on the group's first rank.
void on_first(Group& group, const std::function<void()>& action);

// What `action` returns on the group's first rank, on all ranks.
std::string from_first(Group& group, const std::function<std::string()>& action);

// "rank 3", "ranks 1, 2 and 5".
std::string rank_list(const std::vector<int>& ranks);

}  // namespace switchyard
