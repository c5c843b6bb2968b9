#include "checkpoint/pieces.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>

#include "base/errors.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoint/guard.h"

namespace switchyard {
namespace {

// A part of a tensor as a file's header tells it.
struct Part {
  size_t file;
  std::string key;  // in the file
  int64_t begin;
  int64_t end;
  torch::ScalarType dtype;
};

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& name, const std::string& what) {
  throw CheckpointError(file.string() + ": tensor " + in_quotes(name) + ": " + what);
}

std::string part_key(const TensorPiece& piece) {
  return piece.name + "[" + std::to_string(piece.begin) + ":" + std::to_string(piece.begin + piece.data.numel()) + "]";
}

bool read_number(std::string_view text, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0;
}

// "name[begin:end]" into its three; false for a name that does not end like that.
bool split_key(const std::string& key, std::string& name, int64_t& begin, int64_t& end) {
  const size_t bracket = key.rfind('[');
  const size_t colon = key.rfind(':');
  if (bracket == std::string::npos || colon == std::string::npos || colon < bracket || !key.ends_with(']'))
    return false;
  const std::string_view view = key;
  name = key.substr(0, bracket);
  return read_number(view.substr(bracket + 1, colon - bracket - 1), begin) &&
         read_number(view.substr(colon + 1, key.size() - colon - 2), end) && begin < end;
}

std::vector<int64_t> shape_of(const SafetensorsFile& file, const std::filesystem::path& path, const std::string& name) {
  const auto found = file.metadata().find(name);
  if (found == file.metadata().end()) fail(path, name, "the file holds a part of it, but not its shape");
  std::vector<int64_t> shape;
  const Json json = with_checkpoint_errors([&] { return parse_json(found->second, path.string()); });
  int64_t elements = 1;
  bool good = json.is_array() && json.size() <= kMostDimensions;
  for (size_t i = 0; good && i < json.size(); ++i) {
    good = json[i].is_number_unsigned() && json[i].get<uint64_t>() <= std::numeric_limits<int32_t>::max() &&
           !__builtin_mul_overflow(elements, json[i].get<int64_t>(), &elements);
    if (good) shape.push_back(json[i].get<int64_t>());
  }
  if (!good) fail(path, name, "its shape " + in_quotes(found->second) + " is no list of sizes");
  return shape;
}

void check_cover(const std::string& name, std::vector<Part>& parts, const std::vector<int64_t>& shape,
                 const std::vector<std::filesystem::path>& paths) {
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.begin < b.begin; });
  int64_t covered = 0;
  for (const Part& part : parts) {
    if (part.dtype != parts[0].dtype) fail(paths[part.file], name, "its parts have different types");
    if (part.begin != covered) {
      fail(paths[part.file], name,
           "the part " + in_quotes(part.key) + (part.begin > covered ? " leaves a hole after" : " overlaps with") +
               " element " + std::to_string(covered));
    }
    covered = part.end;
  }
  const int64_t elements = c10::multiply_integers(shape);
  if (covered != elements) {
    fail(paths[parts.back().file], name,
         "its parts end at element " + std::to_string(covered) + " of " + std::to_string(elements));
  }
}

}  // namespace

std::vector<TensorPiece> whole_pieces(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  std::vector<TensorPiece> pieces;
  for (const auto& [name, tensor] : tensors) pieces.push_back({name, tensor, tensor.sizes().vec()});
  return pieces;
}

std::vector<TensorPiece> whole_pieces(const TensorMap& tensors) {
  return whole_pieces(std::vector<std::pair<std::string, torch::Tensor>>(tensors.begin(), tensors.end()));
}

FileDigest write_pieces(const std::filesystem::path& path, const std::vector<TensorPiece>& pieces) {
  TensorMap tensors;
  std::map<std::string, std::string> shapes;
  for (const TensorPiece& piece : pieces) {
    if (piece.whole()) {
      tensors[piece.name] = piece.data;
    } else {
      tensors[part_key(piece)] = piece.data.reshape(-1);
      shapes[piece.name] = Json(piece.shape).dump();
    }
  }
  return write_safetensors(path, tensors, shapes);
}

TensorSource::TensorSource(const TensorMap& tensors) {
  for (const auto& [name, tensor] : tensors) tensors_[name] = {tensor.sizes().vec(), {{0, tensor.reshape(-1)}}};
}

TensorSource::TensorSource(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
  for (const std::filesystem::path& path : paths) files.push_back(std::make_shared<SafetensorsFile>(path));
  std::map<std::string, std::vector<Part>> split;
  for (size_t i = 0; i < files.size(); ++i) {
    for (const auto& [key, info] : files[i]->tensors()) {
      std::string name;
      Part part{.file = i, .key = key, .begin = 0, .end = 0, .dtype = info.dtype};
      if (!split_key(key, name, part.begin, part.end)) {
        Parts whole{info.shape, {{0, SafetensorsFile::view(files[i], key)}}};
        if (!tensors_.emplace(key, std::move(whole)).second) {
          fail(paths[i], key, split.contains(key) ? "it is there whole and in parts" : "another file holds it too");
        }
        continue;
      }
      if (info.shape != std::vector<int64_t>{part.end - part.begin})
        fail(paths[i], key, "its size is not that of its name");
      const std::vector<int64_t> shape = shape_of(*files[i], paths[i], name);
      const auto [known, is_new] = tensors_.emplace(name, Parts{shape, {}});
      if (!is_new && !split.contains(name)) fail(paths[i], name, "it is there whole and in parts");
      if (shape != known->second.shape) fail(paths[i], name, "its parts give different shapes");
      split[name].push_back(part);
    }
  }
  for (auto& [name, parts] : split) {
    Parts& tensor = tensors_.at(name);
    check_cover(name, parts, tensor.shape, paths);
    for (const Part& part : parts) {
      tensor.list.emplace_back(part.begin, SafetensorsFile::view(files[part.file], part.key));
    }
  }
}

void TensorSource::read(const TensorPiece& piece) const {
  const torch::NoGradGuard no_grad;
  torch::Tensor data = piece.data;
  torch::Tensor flat = data.is_contiguous() ? data.view({-1}) : torch::empty({data.numel()}, data.options());
  const int64_t end = piece.begin + flat.numel();
  for (const auto& [first, values] : tensors_.at(piece.name).list) {
    const int64_t from = std::max(piece.begin, first);
    const int64_t size = std::min(end, first + values.numel()) - from;
    if (size > 0) flat.narrow(0, from - piece.begin, size).copy_(values.narrow(0, from - first, size));
  }
  if (!data.is_contiguous()) data.copy_(flat.view(data.sizes()));
}

TensorMap TensorSource::read_all() const {
  TensorMap all;
  for (const auto& [name, parts] : tensors_) {
    torch::Tensor tensor = torch::empty(parts.shape, parts.list[0].second.options());
    read({name, tensor, parts.shape});
    all.emplace(name, std::move(tensor));
  }
  return all;
}

}  // namespace switchyard
