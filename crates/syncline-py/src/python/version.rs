//! Which Python this is. PyO3's `version_info` reads a text to say so, each time.

use pyo3::ffi;
use std::ffi::c_ulong;

/// 12, say, for Python 3.12.
pub fn minor() -> c_ulong {
    // SAFETY: a constant of Python's.
    let all = unsafe { ffi::Py_Version };
    (all >> 16) & 0xFF
}
