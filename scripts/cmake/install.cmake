# Install rules and the package that find_package(tl) reads.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tl)

install(DIRECTORY include/tl DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS tl_tl tl_compiled EXPORT tlTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT tlTargets NAMESPACE tl:: DESTINATION ${package_dir})
if(TL_HAS_CUDA)
  install(TARGETS tl_cuda EXPORT tlCudaTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT tlCudaTargets NAMESPACE tl:: DESTINATION ${package_dir})
endif()

configure_package_config_file(scripts/cmake/tlConfig.cmake.in tlConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(tlConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tlConfig.cmake" "${PROJECT_BINARY_DIR}/tlConfigVersion.cmake"
  DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
