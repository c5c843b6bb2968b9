// What every file that touches tensors needs: compiled once (LibTorch's headers take some twenty seconds).
#pragma once

#include "ops/torch.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>
