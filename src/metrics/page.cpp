#include "metrics/page.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace switchyard::page {
namespace {

// JSON that no HTML parser can take for the end of a script.
std::string safe_in_html(const Json& json) {
  std::string safe;
  for (const char character : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    switch (character) {
      case '<':
        safe += "\\u003c";
        break;
      case '>':
        safe += "\\u003e";
        break;
      case '&':
        safe += "\\u0026";
        break;
      default:
        safe += character;
    }
  }
  return safe;
}

std::string escaped_html(const std::string& text) {
  std::string escaped;
  for (const char character : text) {
    switch (character) {
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '&':
        escaped += "&amp;";
        break;
      default:
        escaped += character;
    }
  }
  return escaped;
}

// Replaces each {{name}} of the template once; what is put in is not searched again.
std::string filled(std::string_view page, const std::map<std::string, std::string, std::less<>>& parts) {
  std::string text;
  for (size_t at = page.find("{{"); at != std::string_view::npos; at = page.find("{{")) {
    const size_t end = page.find("}}", at);
    text.append(page.substr(0, at)).append(parts.find(page.substr(at + 2, end - at - 2))->second);
    page.remove_prefix(end + 2);
  }
  return text.append(page);
}

}  // namespace

Json rounded(double value, int digits) {
  if (!std::isfinite(value)) return nullptr;
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*g", digits, value);
  return std::strtod(text.data(), nullptr);
}

Json rounded(const std::vector<double>& values, int digits) {
  Json list = Json::array();
  for (const double value : values) list.push_back(rounded(value, digits));
  return list;
}

std::string render(std::string_view script, const std::string& title, const std::string& maker, const Json& data) {
  return filled(kTemplate, {{"title", escaped_html(title)},
                            {"maker", escaped_html(maker)},
                            {"style", std::string(kStyle)},
                            {"script", std::string(script)},
                            {"data", safe_in_html(data)}});
}

}  // namespace switchyard::page
