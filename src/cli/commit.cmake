# Writes OUTPUT, which says the version and the commit of SOURCE, where it would say something else than it does: run at
# every build, so that the program is linked again after a commit and nothing is when there was none.
find_program(GIT git)
set(commit unknown)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --short=7 HEAD OUTPUT_VARIABLE head RESULT_VARIABLE failed
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  # The repository must be this source's own, not one that an unpacked archive happens to lie in.
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-prefix OUTPUT_VARIABLE prefix
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT failed AND prefix STREQUAL "")
    set(commit ${head})
    execute_process(COMMAND ${GIT} -C ${SOURCE} diff --quiet HEAD RESULT_VARIABLE changed ERROR_QUIET)
    if(changed)
      string(APPEND commit " with changes")
    endif()
  endif()
endif()
set(text "#include \"cli/version.h\"

namespace switchyard {

const char* program_version() { return \"${VERSION}\"; }
const char* source_commit() { return \"${commit}\"; }

}  // namespace switchyard
")
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "${text}" @ONLY)
