#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "checkpoint/guard.h"

namespace switchyard {
namespace {

constexpr size_t kHeaderAlignment = 8;  // so that the data section of a mapped file is aligned for every dtype

using NamedTensor = std::pair<std::string, torch::Tensor>;

void check_writable(const std::string& name, const torch::Tensor& tensor, const std::string& where) {
  const std::string what = where + ": tensor " + in_quotes(name);
  if (name == "__metadata__") throw CheckpointError(what + ": this name is reserved by the format");
  if (!tensor.defined()) throw CheckpointError(what + " is undefined");
  if (tensor.layout() != torch::kStrided) throw CheckpointError(what + " is sparse; make it dense first");
  if (tensor.is_meta()) throw CheckpointError(what + " is on the meta device and has no values");
  if (!safetensors_dtype_name(tensor.scalar_type())) {
    throw CheckpointError(what + " has dtype " + c10::toString(tensor.scalar_type()) +
                          ", which the safetensors format does not hold");
  }
}

std::vector<NamedTensor> in_file_order(const TensorMap& tensors, const std::string& where) {
  std::vector<NamedTensor> order;
  for (const auto& [name, tensor] : tensors) {
    check_writable(name, tensor, where);
    order.emplace_back(name, tensor.detach());
  }
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor& a, const NamedTensor& b) {
    return a.second.element_size() > b.second.element_size();
  });
  return order;
}

std::string header_of(const std::vector<NamedTensor>& order, const std::map<std::string, std::string>& metadata,
                      const std::string& where) {
  OrderedJson json = OrderedJson::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  uint64_t position = 0;
  for (const auto& [name, tensor] : order) {
    const uint64_t end = position + static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    json[name] = {{"dtype", *safetensors_dtype_name(tensor.scalar_type())},
                  {"shape", tensor.sizes().vec()},
                  {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const OrderedJson::exception&) {
    throw CheckpointError(where + ": a tensor name or metadata text is not valid UTF-8");
  }
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  if (text.size() > kMaxSafetensorsHeader) {
    throw CheckpointError(where + ": the header would have " + std::to_string(text.size()) +
                          " bytes, more than the format's " + std::to_string(kMaxSafetensorsHeader));
  }
  return text;
}

}  // namespace

FileDigest write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                             const std::map<std::string, std::string>& metadata) {
  const std::string where = path.string();
  const std::vector<NamedTensor> order = in_file_order(tensors, where);
  const std::string header = header_of(order, metadata, where);
  const uint64_t header_size = header.size();
  try {
    DurableFile file(path);
    file.write(&header_size, sizeof(header_size));
    file.write(header.data(), header.size());
    for (const auto& [name, tensor] : order) {
      const torch::Tensor plain = tensor.to(torch::kCPU).resolve_neg().contiguous();
      file.write(plain.const_data_ptr(), plain.nbytes());
    }
    return file.commit();
  } catch (const Error& error) {
    throw CheckpointError(error.what());
  } catch (const c10::Error& error) {
    throw CheckpointError(where + ": a tensor could not be brought to the CPU: " + error.what_without_backtrace());
  }
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(with_checkpoint_errors([&] { return MappedFile(path); })),
      header_(parse_safetensors_header(file_.bytes(), path.string())) {}

std::string SafetensorsFile::where(const std::string& name) const {
  return file_.path().string() + ": tensor " + in_quotes(name);
}

const TensorInfo& SafetensorsFile::info_of(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) throw CheckpointError(where(name) + " is not in this file");
  return found->second;
}

std::span<const std::byte> SafetensorsFile::bytes_of(const std::string& name, const TensorInfo& info) const {
  const auto bytes = file_.bytes().subspan(header_.data_offset + info.begin, info.end - info.begin);
  if (info.dtype == torch::kBool &&
      std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; })) {
    throw CheckpointError(where(name) + " has dtype BOOL but holds a byte other than 0 and 1");
  }
  return bytes;
}

torch::Tensor SafetensorsFile::load(const std::string& name) const {
  const TensorInfo& info = info_of(name);
  const auto bytes = bytes_of(name, info);
  try {
    torch::Tensor tensor = torch::empty(info.shape, torch::TensorOptions(info.dtype).device(torch::kCPU));
    if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
    return tensor;
  } catch (const c10::Error& error) {
    throw CheckpointError(where(name) + " cannot be loaded: " + error.what_without_backtrace());
  }
}

torch::Tensor SafetensorsFile::view(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name) {
  const TensorInfo& info = file->info_of(name);
  const auto bytes = file->bytes_of(name, info);
  const auto size = c10::elementSize(info.dtype);
  if (bytes.empty() || reinterpret_cast<uintptr_t>(bytes.data()) % size != 0) return file->load(name).view({-1});
  // Nothing writes into it: from_blob() has no constant form.
  return torch::from_blob(
      const_cast<std::byte*>(bytes.data()), {static_cast<int64_t>(bytes.size() / size)}, [file](void*) {},
      torch::TensorOptions(info.dtype).device(torch::kCPU));
}

TensorMap SafetensorsFile::load_all() const {
  TensorMap tensors;
  for (const auto& [name, info] : header_.tensors) tensors.emplace(name, load(name));
  return tensors;
}

}  // namespace switchyard
