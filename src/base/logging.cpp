#include "base/logging.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "base/errors.h"

namespace switchyard {
namespace {

std::function<void()>& terminal_callback() {
  static std::function<void()> callback;
  return callback;
}

class TerminalSink : public spdlog::sinks::stderr_color_sink_mt {
 public:
  void log(const spdlog::details::log_msg& message) override {
    if (terminal_callback()) terminal_callback()();
    spdlog::sinks::stderr_color_sink_mt::log(message);
  }
};

}  // namespace

// As an argument, so that braces in a path are no format.
void log_info(const std::string& message) { spdlog::info("{}", message); }
void log_warning(const std::string& message) { spdlog::warn("{}", message); }
void log_error(const std::string& message) { spdlog::error("{}", message); }

void start_logging() {
  auto logger = std::make_shared<spdlog::logger>("switchyard", std::make_shared<TerminalSink>());
  logger->set_pattern("%H:%M:%S %^%l%$ %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void log_as_rank(int rank) {
  const auto& terminal = spdlog::default_logger()->sinks().front();
  terminal->set_pattern("%H:%M:%S %^%l%$ [rank " + std::to_string(rank) + "] %v");
  if (rank > 0) terminal->set_level(spdlog::level::err);
}

void log_to_file(const std::filesystem::path& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    spdlog::default_logger()->sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& error) {
    throw Error("cannot log to " + path.string() + ": " + error.what());
  }
}

std::function<void()> before_terminal_message(std::function<void()> callback) {
  return std::exchange(terminal_callback(), std::move(callback));
}

}  // namespace switchyard
