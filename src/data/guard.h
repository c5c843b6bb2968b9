// One kind of error leaves this folder, whatever failed below it. Private to data/.
#pragma once

#include "base/errors.h"

namespace switchyard {

// Runs `action`; errors of files and JSON come out as DataError, with their message.
template <typename Action>
auto with_data_errors(Action&& action) {
  try {
    return action();
  } catch (const DataError&) {
    throw;
  } catch (const Error& error) {
    throw DataError(error.what());
  }
}

}  // namespace switchyard
