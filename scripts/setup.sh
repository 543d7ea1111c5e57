# shellcheck shell=sh
# Installs what tl's build needs on Debian or Ubuntu, or says what is missing. The other scripts source it.

# tl_setup COMMAND:PACKAGE|FILE:PACKAGE ...: makes sure that each command or file is there.
tl_setup() {
  missing=
  for pair in "$@"; do
    thing=${pair%%:*} package=${pair#*:}
    case $thing in
      /*) [ -e "$thing" ] ;;
      *) command -v "$thing" >/dev/null 2>&1 ;;
    esac || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0

  if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: these are missing (named as in Debian):$missing" >&2
    return 1
  fi
  if [ "$(id -u)" = 0 ]; then
    as_root=
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    echo "error: these packages are missing, and installing them needs root:$missing" >&2
    echo "Run this, then try again:  sudo apt-get install -y$missing" >&2
    return 1
  fi
  echo "Installing$missing" >&2
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive sh -c "
    apt-get install -y --no-install-recommends $missing ||
    { apt-get update && apt-get install -y --no-install-recommends $missing; }" >&2
}

# tl_unpack PACKAGE FOLDER: unpacks a Debian package into FOLDER, which needs no root.
tl_unpack() {
  [ -d "$2" ] && return 0
  rm -rf "$2.partial"
  mkdir -p "$2.partial"
  (
    cd "$2.partial" || exit 1
    apt-get -o APT::Sandbox::User=root download "$1" ||
      { [ "$(id -u)" = 0 ] && apt-get update && apt-get -o APT::Sandbox::User=root download "$1"; } ||
      { echo "error: $1 could not be downloaded; is the network reachable, and 'apt-get update' done?" >&2 && exit 1; }
    dpkg -x ./*.deb .
    rm ./*.deb
  ) >&2
  mv "$2.partial" "$2"
}

# What building the library, the examples and the tests needs.
tl_setup_build() {
  tl_setup g++:g++ cmake:cmake ninja:ninja-build python3:python3 \
    /usr/include/stb/stb_image.h:libstb-dev /usr/include/nlohmann/json.hpp:nlohmann-json3-dev \
    /usr/include/CLI/CLI.hpp:libcli11-dev /usr/include/doctest/doctest.h:doctest-dev /usr/include/jpeglib.h:libjpeg-dev
  # Older distributions have a newer compiler beside their default one.
  if [ -z "${CXX:-}" ] && [ "$(g++ -dumpversion | cut -d. -f1)" -lt 12 ]; then
    tl_setup g++-12:g++-12
    export CXX=g++-12
  fi
}

# tl_configure FOLDER: configures the build. CUDA kernels take minutes to compile and are worth it only with a GPU;
# TL_CMAKE_ARGS=-DTL_CUDA=ON compiles them anyway.
tl_configure() {
  [ -e /dev/nvidiactl ] && cuda=AUTO || cuda=OFF
  # shellcheck disable=SC2086
  cmake -S . -B "$1" -G Ninja -DTL_CUDA=$cuda ${TL_CMAKE_ARGS:-}
}
