//! Who refers to an object: what tells whether code of others still has an object that is to be used again.

use crate::python::once::Once;
use pyo3::ffi;
use pyo3::prelude::*;

unsafe extern "C" {
    fn _PyObject_GetDictPtr(object: *mut ffi::PyObject) -> *mut *mut ffi::PyObject;
}

/// Whether reference counts are exact: not so in a free-threaded build.
pub fn counts_are_exact(py: Python<'_>) -> PyResult<bool> {
    static ARE_EXACT: Once<bool> = Once::new();
    let abi = || Ok(!py.import("sys")?.getattr("abiflags")?.extract::<String>()?.contains('t'));
    ARE_EXACT.get_or_try_init(py, abi).copied()
}

/// How many references there are to an object. In a build whose counts are exact.
pub fn count(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: attached; the object is alive.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether there are so many references to an object, and no weak one.
pub fn are_exactly<T>(object: &Bound<'_, T>, expected: isize) -> bool {
    let object = object.as_any();
    count(object) == expected && !has_weak(object)
}

fn has_weak(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the type of a live object. From Python 3.12 on the offset may be below 0.
    if unsafe { (*object.get_type_ptr()).tp_weaklistoffset } == 0 {
        return false;
    }
    // SAFETY: attached; the object is alive, and of a type that has this field.
    let first = unsafe { ffi::PyObject_GET_WEAKREFS_LISTPTR(object.as_ptr()) };
    // SAFETY: a field of the object's.
    !unsafe { *first }.is_null()
}

/// Whether somebody has set an attribute of an object that has none of its own, and shows nobody its dictionary.
pub fn has_attributes(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; the object is alive.
    let slot = unsafe { _PyObject_GetDictPtr(object.as_ptr()) };
    if slot.is_null() {
        return false;
    }
    // SAFETY: a field of the object's, which may be null until there is a dictionary.
    let dict = unsafe { *slot };
    // SAFETY: null, or a dictionary that the object keeps.
    !dict.is_null() && unsafe { ffi::PyDict_Size(dict) } != 0
}
