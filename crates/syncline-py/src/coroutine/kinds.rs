//! What an object is, as far as that shows without a call of it: a coroutine, something else that can be awaited, an async
//! function.

use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::signals;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int};

pub const CO_GENERATOR: u32 = 0x20;
pub const CO_COROUTINE: u32 = 0x80;
/// Of a generator function that `types.coroutine` decorates: what it makes can be awaited, and driven, as it is.
pub const CO_ITERABLE_COROUTINE: u32 = 0x100;
pub const CO_ASYNC_GENERATOR: u32 = 0x200;

/// Whether this is what calling an `async def` function returns.
pub fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the check only compares the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// Whether it can be awaited.
pub fn is_awaitable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.hasattr(intern!(object.py(), "__await__"))? || is_generator_coroutine(object)?)
}

/// Whether this is what calling a generator function returns that `types.coroutine` decorates. It is driven as it is.
pub fn is_generator_coroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: the check only compares the type of a live object.
    if unsafe { ffi::PyGen_CheckExact(object.as_ptr()) } == 0 {
        return Ok(false);
    }
    let py = object.py();
    let flags: u32 = object.getattr(intern!(py, "gi_code"))?.getattr(intern!(py, "co_flags"))?.extract()?;
    Ok(flags & CO_ITERABLE_COROUTINE != 0)
}

/// The code flags (`co_flags`) of a function or method, also behind `functools.partial`; 0 for other objects. Where
/// they say "coroutine", a call makes one for certain, and runs none of its code.
pub fn flags_of(function: &Bound<'_, PyAny>) -> u32 {
    let py = function.py();
    // SAFETY: the check only compares the type of a live object.
    if unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0
        && let Some(flags) = flags_of_plain(function)
    {
        return flags;
    }
    // Bound methods pass attribute access on to their function.
    match signals::unbroken(py, || function.getattr(intern!(py, "__code__"))) {
        Ok(code) => code.getattr(intern!(py, "co_flags")).and_then(|flags| flags.extract()).unwrap_or(0),
        Err(_) => names::inside_partial(function).map_or(0, |inner| flags_of(&inner)),
    }
}

/// The same for what `def` and `async def` make, without a look-up of names. `None` if code objects don't tell where they
/// have their flags.
fn flags_of_plain(function: &Bound<'_, PyAny>) -> Option<u32> {
    static OFFSET: Once<Option<usize>> = Once::new();
    let py = function.py();
    // SAFETY: a function, which is alive and keeps its code.
    let code = unsafe { ffi::PyFunction_GetCode(function.as_ptr()) };
    let find = || {
        // SAFETY: `code` is alive.
        let class = unsafe { ffi::Py_TYPE(code) };
        // SAFETY: a type object of the interpreter's, which may be read while attached.
        Ok(offset_of_flags(unsafe { (*class).tp_members }))
    };
    let offset = (*OFFSET.get_or_try_init(py, find).ok()?)?;
    // SAFETY: `offset` is where objects of that type, which has no subtypes, have this field.
    let field = unsafe { code.byte_add(offset) }.cast::<c_int>();
    // SAFETY: as above; it is never written.
    u32::try_from(unsafe { *field }).ok()
}

/// The place of `co_flags` in a table of members.
fn offset_of_flags(members: *mut ffi::PyMemberDef) -> Option<usize> {
    let mut next = members;
    while !next.is_null() {
        // SAFETY: the table ends with an entry without a name, which ends the loop.
        let entry = unsafe { *next };
        if entry.name.is_null() {
            break;
        }
        // SAFETY: a C string of the type's.
        if unsafe { CStr::from_ptr(entry.name) } == c"co_flags" && entry.type_code == ffi::Py_T_INT {
            return usize::try_from(entry.offset).ok();
        }
        // SAFETY: not the last entry.
        next = unsafe { next.add(1) };
    }
    None
}
