// Experts on other ranks: tokens travel there and back by two all-to-alls with exact, uneven splits.
#pragma once

#include "model/moe/dispatcher.h"
#include "parallel/group.h"

namespace switchyard {

// Rank r of `group` holds experts [r E / R, (r + 1) E / R). Any rank may have no rows, or get none.
class AllToAllDispatcher : public Dispatcher {
 public:
  // `group` must outlive the dispatcher. row_bytes: what this rank needs for each row that its experts compute, forward
  // and backward.
  AllToAllDispatcher(Group& group, double row_bytes) : group_(group), row_bytes_(row_bytes) {}

  // Collectives: three all-to-alls of the group forward (row counts, rows, results), two backward. `meanwhile` runs
  // while the rows travel, and its backward while their gradients do. The host reads the counts: exact splits need it.
  // Throws DistributedError before anything is allocated where the rows that arrive would not fit; see require_room().
  torch::Tensor compute(const torch::Tensor& rows, const torch::Tensor& offsets, const ExpertFunction& experts,
                        const Meanwhile& meanwhile) override;

 protected:
  RowCount row_count() const override { return RowCount::kExact; }

 private:
  Group& group_;
  double row_bytes_;
};

// Throws DistributedError, with the number of bytes and what to change, where `arriving` rows of `row_bytes` take more
// than `free_bytes` although `expected` ones, this rank's fair share, would fit.
void require_room(int64_t arriving, int64_t expected, double row_bytes, double free_bytes);

}  // namespace switchyard
