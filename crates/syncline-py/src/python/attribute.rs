//! An attribute that a type defines in C, read and written without a look-up of its name: four times cheaper.

use super::once::{Once, intern};
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyType};
use std::ffi::{CStr, c_void};

/// Its getter and its setter.
pub struct Attribute {
    get: ffi::getter,
    set: Option<ffi::setter>,
    closure: *mut c_void,
}

// SAFETY: two functions, and what the type wants them to be given: all static.
unsafe impl Send for Attribute {}

// SAFETY: as above.
unsafe impl Sync for Attribute {}

impl Attribute {
    /// `None` if neither the type nor one that it inherits from defines it in a table of getters and setters.
    pub fn of(class: &Bound<'_, PyType>, attribute: &CStr) -> Option<Self> {
        let mut class = class.as_type_ptr();
        while !class.is_null() {
            // SAFETY: the first type is alive and keeps its bases; a type object may be read while attached.
            let table = unsafe { (*class).tp_getset };
            if let Some(found) = Self::in_table(table, attribute) {
                return Some(found);
            }
            // SAFETY: as above.
            class = unsafe { (*class).tp_base };
        }
        None
    }

    fn in_table(table: *mut ffi::PyGetSetDef, attribute: &CStr) -> Option<Self> {
        let mut next = table;
        while !next.is_null() {
            // SAFETY: the table ends with an entry without a name, which ends the loop.
            let entry = unsafe { *next };
            if entry.name.is_null() {
                break;
            }
            // SAFETY: a C string of the type's.
            let name = unsafe { CStr::from_ptr(entry.name) };
            if let (true, Some(get)) = (name == attribute, entry.get) {
                return Some(Self { get, set: entry.set, closure: entry.closure });
            }
            // SAFETY: not the last entry.
            next = unsafe { next.add(1) };
        }
        None
    }

    /// Of an object of that type, or of a subtype.
    pub fn get<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the getter of that type, for an object of that type.
        let value = unsafe { (self.get)(object.as_ptr(), self.closure) };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(object.py(), value) }
    }

    /// The same.
    pub fn set(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(set) = self.set else { return Err(PyAttributeError::new_err("attribute is not writable")) };
        // SAFETY: the setter of that type, for an object of that type.
        let failed = unsafe { set(object.as_ptr(), value.as_ptr(), self.closure) };
        if failed == 0 { Ok(()) } else { Err(PyErr::fetch(object.py())) }
    }
}

/// The code of a native coroutine, or of an async generator.
pub fn code_of<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = object.py();
    // SAFETY: a live object; attached.
    let name = if unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 } {
        intern!(py, "cr_code")
    // SAFETY: as above.
    } else if unsafe { ffi::PyAsyncGen_CheckExact(object.as_ptr()) != 0 } {
        intern!(py, "ag_code")
    } else {
        return None;
    };
    object.getattr(name).ok()
}

/// The qualified name and the module of a function that is written in Python. `None` for anything else.
pub fn name_and_module<'py>(object: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    static QUALNAME: Once<Option<Attribute>> = Once::new();
    let function = object.cast::<PyFunction>().ok()?;
    let py = object.py();
    let qualname = QUALNAME.get_or_try_init(py, || Ok(Attribute::of(&py.get_type::<PyFunction>(), c"__qualname__")));
    let name = qualname.ok()?.as_ref()?.get(function).ok()?;
    // SAFETY: a function, which keeps what this returns; attached.
    let module = unsafe { ffi::PyFunction_GetModule(function.as_ptr()) };
    // SAFETY: null, or the object that was just found.
    let module = unsafe { Bound::from_borrowed_ptr_or_opt(py, module) }?;
    Some((name, module))
}
