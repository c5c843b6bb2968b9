// One kind of error leaves this folder, whatever failed below it.
#pragma once

#include <filesystem>
#include <string>

#include "base/errors.h"
#include "base/json.h"

namespace switchyard {

// A whole checkpoint of another format version: nothing to skip or to replace, but to be read by another program.
class OtherFormatError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

[[noreturn]] inline void fail(const std::string& where, const std::string& what) {
  throw CheckpointError(where + ": " + what);
}

// An entry of untrusted JSON that must be there.
inline const Json& member(const Json& object, const std::string& key, const std::string& where) {
  if (!object.is_object()) fail(where, "expected an object with '" + key + "', found " + object.type_name());
  const auto found = object.find(key);
  if (found == object.end()) fail(where, "'" + key + "' is missing");
  return *found;
}

// Runs `action`; errors of files and JSON come out as CheckpointError, with their message.
template <typename Action>
auto with_checkpoint_errors(Action&& action) {
  try {
    return action();
  } catch (const CheckpointError&) {
    throw;
  } catch (const Error& error) {
    throw CheckpointError(error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    throw CheckpointError(error.what());
  } catch (const Json::exception& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace switchyard
