# What `cmake --install` puts under a prefix, and the commit that `switchyard --version` tells. Included by
# CMakeLists.txt, whose variables and targets it uses.
include(GNUInstallDirs)

# At every build, for a commit touches no file that the build would look at.
add_custom_target(switchyard_commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DVERSION=${PROJECT_VERSION}
          -DOUTPUT=${CMAKE_BINARY_DIR}/commit.cpp -P ${CMAKE_SOURCE_DIR}/src/cli/commit.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/commit.cpp)
add_library(switchyard_commit_text STATIC ${CMAKE_BINARY_DIR}/commit.cpp)
target_link_libraries(switchyard_commit_text PRIVATE switchyard_options)
add_dependencies(switchyard_commit_text switchyard_commit)
target_link_libraries(switchyard_cli PUBLIC switchyard_commit_text)

# The program finds LibTorch where it was when it was built; scripts/package.sh puts it beside the program.
set_target_properties(switchyard PROPERTIES INSTALL_RPATH
                      "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/switchyard;${_torch_root}/lib;${_torch_nvidia}")
install(TARGETS switchyard RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# Presets. The one of the default corpus finds LibTorch's headers, which are part of it, where they are installed.
set(share ${CMAKE_INSTALL_DATADIR}/switchyard)
install(DIRECTORY configs DESTINATION ${share} FILES_MATCHING PATTERN *.yaml PATTERN default.yaml EXCLUDE)
install(DIRECTORY ${_torch_root}/include/ DESTINATION ${share}/corpus/libtorch FILES_MATCHING PATTERN *.h)
file(READ configs/data/default.yaml corpus)
foreach(change "where scripts/setup.sh puts them|installed beside the presets"
               "../../.venv/lib/python3*/site-packages/torch/include/|../../corpus/libtorch/")
  string(REPLACE "|" ";" change "${change}")
  list(GET change 0 from)
  list(GET change 1 to)
  string(FIND "${corpus}" "${from}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "configs/data/default.yaml no longer says '${from}', which is another when installed: change"
                        " scripts/install.cmake with it")
  endif()
  string(REPLACE "${from}" "${to}" corpus "${corpus}")
endforeach()
file(CONFIGURE OUTPUT installed/default.yaml CONTENT "${corpus}" @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/installed/default.yaml DESTINATION ${share}/configs/data)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS configs/data/default.yaml)

# What the program tells of itself: it is asked when it is installed, and answers into the prefix.
set(texts
  completions:bash ${CMAKE_INSTALL_DATADIR}/bash-completion/completions/switchyard
  completions:zsh ${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_switchyard
  completions:fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/switchyard.fish
  completions:man ${CMAKE_INSTALL_MANDIR}/man1/switchyard.1
  config:--schema ${share}/switchyard.schema.json)
install(CODE "
  set(texts \"${texts}\")
  while(texts)
    list(POP_FRONT texts command place)
    string(REPLACE : \";\" command \${command})
    set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/\${place}\")
    message(STATUS \"Installing: \${file}\")
    get_filename_component(folder \"\${file}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND \"$<TARGET_FILE:switchyard>\" \${command} OUTPUT_FILE \"\${file}\" COMMAND_ERROR_IS_FATAL ANY)
  endwhile()")
