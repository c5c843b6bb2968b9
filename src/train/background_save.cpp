#include "train/background_save.h"

namespace switchyard {
namespace {

void copy_to_host(std::vector<TensorPiece>& pieces) {
  for (TensorPiece& piece : pieces) {
    piece.data = piece.data.detach().to(torch::kCPU, piece.data.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  }
}

}  // namespace

BackgroundSave::~BackgroundSave() {
  if (path_.valid()) path_.wait();
}

void BackgroundSave::start(const std::filesystem::path& folder, Checkpoint checkpoint, CheckpointShare share,
                           int64_t keep_last, Group& ranks) {
  copy_to_host(share.model);
  copy_to_host(share.optimizer);
  path_ = std::async(std::launch::async,
                     [folder, checkpoint = std::move(checkpoint), share = std::move(share), keep_last, &ranks] {
                       return save_checkpoint_share(folder, checkpoint, share, keep_last, ranks).string();
                     });
}

std::string BackgroundSave::finished() {
  if (!path_.valid() || path_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return "";
  return path_.get();
}

std::string BackgroundSave::wait() { return path_.valid() ? path_.get() : ""; }

}  // namespace switchyard
