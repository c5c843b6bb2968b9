// Experts on other ranks: tokens travel there and back by two all-to-alls with exact, uneven splits.
#pragma once

#include "model/moe/dispatcher.h"
#include "parallel/group.h"

namespace switchyard {

// Rank r of `group` holds experts [r E / R, (r + 1) E / R). Any rank may have no rows, or get none.
class AllToAllDispatcher : public Dispatcher {
 public:
  // `group` must outlive the dispatcher.
  explicit AllToAllDispatcher(Group& group) : group_(group) {}

  // Collectives: three all-to-alls of the group forward (row counts, rows, results), two backward. `meanwhile` runs
  // while the rows travel, and its backward while their gradients do. The host reads the counts: exact splits need it.
  torch::Tensor compute(const torch::Tensor& rows, const torch::Tensor& offsets, const ExpertFunction& experts,
                        const Meanwhile& meanwhile) override;

 protected:
  RowCount row_count() const override { return RowCount::kExact; }

 private:
  Group& group_;
};

}  // namespace switchyard
