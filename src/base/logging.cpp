#include "base/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "base/errors.h"
#include "base/text.h"

namespace switchyard {
namespace {

std::function<void()>& terminal_callback() {
  static std::function<void()> callback;
  return callback;
}

// %* of a pattern: the message, which may hold names out of files.
class SafeText : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/, spdlog::memory_buf_t& to) override {
    const std::string text = printable({message.payload.data(), message.payload.size()});
    to.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<SafeText>(); }
};

// What is said before there is a file for it.
using EarlyMessages = spdlog::sinks::ringbuffer_sink_mt;
constexpr size_t kMostEarly = 1000;

void set_pattern(spdlog::sinks::sink& sink, const std::string& pattern) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<SafeText>('*').set_pattern(pattern);
  sink.set_formatter(std::move(formatter));
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
  const auto terminal = std::make_shared<TerminalSink>();
  set_pattern(*terminal, "%H:%M:%S %^%l%$ %*");
  // https://no-color.org
  if (const char* no_color = std::getenv("NO_COLOR"); no_color != nullptr && *no_color != '\0') {
    terminal->set_color_mode(spdlog::color_mode::never);
  }
  const auto sinks = {spdlog::sink_ptr(terminal), spdlog::sink_ptr(std::make_shared<EarlyMessages>(kMostEarly))};
  auto logger = std::make_shared<spdlog::logger>("switchyard", sinks);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void log_as_rank(int rank) {
  const auto& terminal = spdlog::default_logger()->sinks().front();
  set_pattern(*terminal, "%H:%M:%S %^%l%$ [rank " + std::to_string(rank) + "] %*");
  if (rank > 0) terminal->set_level(spdlog::level::err);
}

void log_to_file(const std::filesystem::path& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    set_pattern(*sink, "%Y-%m-%d %H:%M:%S.%e %l %*");
    std::vector<spdlog::sink_ptr>& sinks = spdlog::default_logger()->sinks();
    if (const auto early = std::dynamic_pointer_cast<EarlyMessages>(sinks.back())) {
      for (const auto& message : early->last_raw()) sink->log(message);
      sink->flush();
      sinks.pop_back();
    }
    sinks.push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& error) {
    throw Error("cannot log to " + path.string() + ": " + error.what());
  }
}

std::function<void()> before_terminal_message(std::function<void()> callback) {
  return std::exchange(terminal_callback(), std::move(callback));
}

}  // namespace switchyard
