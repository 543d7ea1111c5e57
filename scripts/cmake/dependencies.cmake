# What tl uses from elsewhere: from the distribution if it has it, else fetched at a pinned commit, whose hash names its
# content. The names are those of each project's own CMake package.
include(FetchContent)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# tl_fetch(name url commit): unpacks a project's sources into _deps/<name> and sets <name>_SOURCE_DIR.
macro(tl_fetch name url commit)
  message(STATUS "tl: ${name} is not installed, fetching ${url}")
  FetchContent_Declare(${name} GIT_REPOSITORY ${url} GIT_TAG ${commit}
    SOURCE_DIR "${PROJECT_BINARY_DIR}/_deps/${name}" SOURCE_SUBDIR none)
  FetchContent_MakeAvailable(${name})
endmacro()

# tl_fetch_project(name url commit): the same for a project with a CMake build, of which only what is used gets built and
# nothing installed.
macro(tl_fetch_project name url commit)
  tl_fetch(${name} ${url} ${commit})
  add_subdirectory("${PROJECT_BINARY_DIR}/_deps/${name}" "${PROJECT_BINARY_DIR}/_deps/${name}-build" EXCLUDE_FROM_ALL)
endmacro()

# The headers that tl's own headers include: stb/stb_image.h and nlohmann/json.hpp.
function(tl_add_header_dependencies target)
  find_path(TL_STB_INCLUDE_DIR stb/stb_image.h)
  if(NOT TL_STB_INCLUDE_DIR)
    tl_fetch(stb https://github.com/nothings/stb.git 31c1ad37456438565541f4919958214b6e762fb4)
    set(TL_STB_INCLUDE_DIR "${PROJECT_BINARY_DIR}/_deps" CACHE PATH "" FORCE)
  endif()
  find_path(TL_JSON_INCLUDE_DIR nlohmann/json.hpp)
  if(NOT TL_JSON_INCLUDE_DIR)
    tl_fetch(json https://github.com/nlohmann/json.git 9cca280a4d0ccf0c08f47a99aa71d1b0e52f8d03)
    set(TL_JSON_INCLUDE_DIR "${PROJECT_BINARY_DIR}/_deps/json/include" CACHE PATH "" FORCE)
  endif()
  target_include_directories(${target} SYSTEM INTERFACE
    $<BUILD_INTERFACE:${TL_STB_INCLUDE_DIR}> $<BUILD_INTERFACE:${TL_JSON_INCLUDE_DIR}>)
endfunction()

# libjpeg-turbo, if the machine has it and TL_JPEG_TURBO is not OFF: faster than stb, which is always enough. Sets
# TL_HAS_JPEG_TURBO.
function(tl_add_jpeg_turbo target)
  set(TL_HAS_JPEG_TURBO OFF PARENT_SCOPE)
  if(TL_JPEG_TURBO STREQUAL "OFF")
    return()
  endif()
  find_package(JPEG QUIET)
  if(JPEG_FOUND)
    include(CheckCXXSymbolExists)
    set(CMAKE_REQUIRED_INCLUDES ${JPEG_INCLUDE_DIRS})
    check_cxx_symbol_exists(LIBJPEG_TURBO_VERSION "cstdio;jpeglib.h" TL_JPEG_IS_TURBO)
  endif()
  if(TL_JPEG_IS_TURBO)
    target_link_libraries(${target} INTERFACE JPEG::JPEG)
    target_compile_definitions(${target} INTERFACE TL_WITH_JPEG_TURBO)
    set(TL_HAS_JPEG_TURBO ON PARENT_SCOPE)
  elseif(TL_JPEG_TURBO STREQUAL "ON")
    message(FATAL_ERROR "tl: TL_JPEG_TURBO=ON, but libjpeg-turbo was not found (Debian: libjpeg-dev)")
  else()
    message(STATUS "tl: libjpeg-turbo was not found, stb decodes JPEGs")
  endif()
endfunction()

macro(tl_require_doctest)
  find_package(doctest QUIET)
  if(NOT doctest_FOUND)
    tl_fetch_project(doctest https://github.com/doctest/doctest.git ae7a13539fb71f270b87eb2e874fbac80bc8dda2)
  endif()
endmacro()

macro(tl_require_cli11)
  find_package(CLI11 QUIET)
  if(NOT CLI11_FOUND)
    tl_fetch_project(CLI11 https://github.com/CLIUtils/CLI11.git 291c58789c031208f08f4f261a858b5b7083e8e2)
  endif()
endmacro()
