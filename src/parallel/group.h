// Some of the ranks, and the collectives among them. A group of one rank has no engine, and its collectives copy.
// Every rank of a group must call the same collectives in the same order.
// Legend: R ranks of the group.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/torch.h"

namespace switchyard {

struct Engine;  // backends.h

// Throws DistributedError for a collective that failed: says what was found out about the other ranks.
using FailureHandler = std::function<void(const std::string& collective, const std::string& reason)>;

// A collective under way. Its tensors must live, and its output not be read, until wait() has returned.
class Pending {
 public:
  Pending() = default;
  // Returns when the result is there (on CUDA: when the current stream may read it). Throws DistributedError.
  void wait();

 private:
  friend class Group;
  std::function<void()> arrive_;  // returns when the bytes are there
  std::function<void()> after_;   // what is left to do then
};

class Group {
 public:
  // `name` is for messages. engine null: this rank alone.
  Group(std::string name, int rank, int size, std::shared_ptr<Engine> engine,
        std::shared_ptr<const FailureHandler> on_failure);

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Adds up over the ranks, in place, in a fixed order: the same bits on every rank. Collectives: itself, as below.
  Pending all_reduce(torch::Tensor values);
  // out [n] = the sum over ranks of their in[rank * n : (rank + 1) * n]; in [R * n]. In rank order on the CPU.
  Pending reduce_scatter(torch::Tensor out, torch::Tensor in);
  // out [R * n] = in [n] of every rank, in rank order. `in` may be its own place in `out`.
  Pending all_gather(torch::Tensor out, torch::Tensor in);
  // Rows of `in` go to the ranks in turn, in_rows[r] to rank r; `out` gets out_rows[r] from rank r.
  Pending all_to_all(torch::Tensor out, torch::Tensor in, std::vector<int64_t> out_rows, std::vector<int64_t> in_rows);
  Pending broadcast(torch::Tensor values, int root);
  void barrier();

  // Bytes that this rank has sent to others so far, by the collectives' own accounts (an all-reduce of N bytes counts
  // 2 N (R - 1) / R, as a ring or a reduce-scatter and all-gather send).
  double bytes_sent() const { return bytes_sent_; }

 private:
  template <class Launch>
  Pending start(const char* name, double bytes, const Launch& launch);

  std::string name_;
  int rank_;
  int size_;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<const FailureHandler> on_failure_;
  double bytes_sent_ = 0;
};

}  // namespace switchyard
