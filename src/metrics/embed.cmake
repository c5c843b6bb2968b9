# cmake -DFOLDER=src/metrics/page -DOUTPUT=page.cpp -P embed.cmake: the files of the report page as C++ string constants.
# The scripts of a page share one scope and are joined in this order.
set(shared format.js frame.js head.js controls.js line_chart.js heat_map.js)

function(read_joined variable)
  set(text "")
  foreach(name ${ARGN})
    file(READ ${FOLDER}/${name} part)
    string(APPEND text "${part}")
  endforeach()
  set(${variable} "${text}" PARENT_SCOPE)
endfunction()

read_joined(template report.html)
read_joined(style report.css)
read_joined(script ${shared} report.js)
read_joined(specialisation ${shared} table_map.js specialisation.js)
read_joined(ablation ${shared} point_charts.js ablation.js)
set(open "R\"~page~(")
set(close ")~page~\"")
file(WRITE ${OUTPUT} "// Made by src/metrics/embed.cmake.
#include \"metrics/page.h\"

namespace switchyard::page {
const std::string_view kTemplate = ${open}${template}${close};
const std::string_view kStyle = ${open}${style}${close};
const std::string_view kScript = ${open}${script}${close};
const std::string_view kSpecialisationScript = ${open}${specialisation}${close};
const std::string_view kAblationScript = ${open}${ablation}${close};
}  // namespace switchyard::page
")
