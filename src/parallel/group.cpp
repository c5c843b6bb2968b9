#include "parallel/group.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "ops/step_parts.h"
#include "parallel/backends.h"
#include "parallel/reason.h"

namespace switchyard {

using torch::Tensor;

void Pending::wait() {
  if (!arrive_ && !after_) return;
  const StepPartScope part(StepPart::kCommunication);
  if (arrive_) std::exchange(arrive_, {})();
  if (after_) std::exchange(after_, {})();
}

Group::Group(std::string name, int rank, int size, std::shared_ptr<Engine> engine,
             std::shared_ptr<const FailureHandler> on_failure)
    : name_(std::move(name)),
      rank_(rank),
      size_(size),
      engine_(std::move(engine)),
      on_failure_(std::move(on_failure)) {}

template <class Launch>
Pending Group::start(const char* name, double bytes, const Launch& launch) {
  const StepPartScope part(StepPart::kCommunication);
  bytes_sent_ += bytes;
  const std::string what = std::string(name) + " (" + name_ + ")";
  Pending pending;
  try {
    const c10::intrusive_ptr<c10d::Work> work = launch(*engine_->backend);
    pending.arrive_ = [work, what, on_failure = on_failure_] {
      try {
        work->wait();
      } catch (const std::exception& error) {
        (*on_failure)(what, first_line(error));
      }
    };
  } catch (const std::exception& error) {
    (*on_failure_)(what, first_line(error));
  }
  return pending;
}

Pending Group::all_reduce(Tensor values) {
  if (size_ == 1) return {};
  return start("all-reduce", 2.0 * double(values.nbytes()) * (size_ - 1) / size_, [&](c10d::Backend& backend) {
    std::vector<Tensor> tensors = {values};
    return backend.allreduce(tensors);
  });
}

Pending Group::reduce_scatter(Tensor out, Tensor in) {
  if (size_ == 1) {
    out.copy_(in);
    return {};
  }
  const double bytes = double(in.nbytes()) * (size_ - 1) / size_;
  if (!in.device().is_cpu()) {
    return start("reduce-scatter", bytes,
                 [&](c10d::Backend& backend) { return backend._reduce_scatter_base(out, in); });
  }
  // Gloo's own reduce-scatter is an all-reduce inside: twice the bytes.
  const Tensor pieces = torch::empty_like(in).view({size_, -1});
  Tensor received = pieces.flatten();
  Pending pending = start("reduce-scatter", bytes, [&](c10d::Backend& backend) {
    std::vector<int64_t> even_out;
    std::vector<int64_t> even_in;
    return backend.alltoall_base(received, in, even_out, even_in);
  });
  // `in` is held until the others have it.
  pending.after_ = [out, in, pieces] { torch::sum_out(const_cast<Tensor&>(out), pieces, 0); };
  return pending;
}

Pending Group::all_gather(Tensor out, Tensor in) {
  if (size_ == 1) {
    if (out.data_ptr() != in.data_ptr()) out.copy_(in);
    return {};
  }
  return start("all-gather", double(in.nbytes()) * (size_ - 1),
               [&](c10d::Backend& backend) { return backend._allgather_base(out, in); });
}

Pending Group::all_to_all(Tensor out, Tensor in, std::vector<int64_t> out_rows, std::vector<int64_t> in_rows) {
  if (size_ == 1) {
    out.copy_(in);
    return {};
  }
  const double row_bytes = in.size(0) == 0 ? 0.0 : double(in.nbytes()) / double(in.size(0));
  const double sent = row_bytes * double(in.size(0) - in_rows[static_cast<size_t>(rank_)]);
  Pending pending = start("all-to-all", sent,
                          [&](c10d::Backend& backend) { return backend.alltoall_base(out, in, out_rows, in_rows); });
  pending.after_ = [in] {};  // held until the others have it
  return pending;
}

Pending Group::broadcast(Tensor values, int root) {
  if (size_ == 1) return {};
  return start("broadcast", rank_ == root ? double(values.nbytes()) * (size_ - 1) : 0.0, [&](c10d::Backend& backend) {
    std::vector<Tensor> tensors = {values};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return backend.broadcast(tensors, options);
  });
}

void Group::barrier() {
  if (size_ == 1) return;
  start("barrier", 0, [&](c10d::Backend& backend) { return backend.barrier(); }).wait();
}

}  // namespace switchyard
