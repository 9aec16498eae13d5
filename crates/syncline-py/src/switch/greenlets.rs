//! greenlet's C API, as far as we use it.
//!
//! It is imported by the first bridge call that may switch: `import syncline` does not load it.
//!
//! Invariants:
//! 1. A greenlet is switched to, or thrown into, by its own thread only.
//! 2. What is handed over in a switch lies on the heap. Pointers into the stack that is left are no good: greenlet
//!    may move that stack away until it is switched to again.
//! 3. Whoever switches holds the compiled code into which its stack returns (`compiled.rs`).

use crate::python::attribute::Attribute;
use crate::python::compiled;
use crate::python::errors;
use crate::python::names;
use crate::python::once::{Once, intern};
use crate::python::references;
use pyo3::exceptions::{PyException, PyImportError, PyMemoryError, PyOSError, PyRuntimeError, PyRuntimeWarning};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use std::ffi::c_void;
use std::os::raw::c_int;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

type Object = *mut ffi::PyObject;

/// The indexes of the functions in the table that greenlet exports as a capsule (greenlet.h).
const NEW: usize = 3;
const GET_CURRENT: usize = 4;
const SWITCH: usize = 6;
const MAIN: usize = 8;
const GET_PARENT: usize = 11;

pub struct Api {
    new: unsafe extern "C" fn(Object, Object) -> Object,
    current: unsafe extern "C" fn() -> Object,
    switch: unsafe extern "C" fn(Object, Object, Object) -> Object,
    is_main: unsafe extern "C" fn(Object) -> c_int,
    parent: unsafe extern "C" fn(Object) -> Object,
    context: Option<Attribute>,
    compiled: compiled::ExecutorField,
    exit: Py<PyAny>,
    /// Whether a reference count of 1 means that nobody else has the greenlet: not so in a free-threaded build.
    pub counts_are_exact: bool,
    nothing: Py<PyTuple>,
    base: Py<PyAny>,
    get_current: Py<PyAny>,
}

/// How many threads are importing greenlet just now.
static LOADING: AtomicUsize = AtomicUsize::new(0);
/// Set in a forked child: see `after_fork`.
static UNUSABLE: AtomicBool = AtomicBool::new(false);

static API: Once<Api> = Once::new();

/// Imports greenlet, or says why it can't be used.
pub fn load(py: Python<'_>) -> PyResult<&Api> {
    if let Some(api) = API.get(py) {
        return Ok(api);
    }
    if UNUSABLE.load(Relaxed) {
        return Err(PyImportError::new_err("this process was forked while another thread imported it"));
    }
    LOADING.fetch_add(1, Relaxed);
    let loaded = API.get_or_try_init(py, || {
        let module = py.import("greenlet")?;
        let counts_are_exact = references::counts_are_exact(py)?;
        if !counts_are_exact {
            check_version(&module)?;
        }
        let capsule = module.getattr("_C_API")?;
        // SAFETY: `capsule` is alive; anything but the capsule of that name is refused.
        let table = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"greenlet._C_API".as_ptr()) };
        let table = NonNull::new(table).ok_or_else(|| PyErr::fetch(py))?.cast::<*mut c_void>();
        let entry = |index: usize| {
            // SAFETY: the table has 12 entries.
            let entry = unsafe { table.add(index) };
            // SAFETY: as above, for as long as the module lives, which is never unloaded.
            unsafe { entry.read() }
        };
        Ok(Api {
            // SAFETY: greenlet.h declares this entry so.
            new: unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Object, Object) -> Object>(entry(NEW))
            },
            // SAFETY: as above.
            current: unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> Object>(entry(GET_CURRENT))
            },
            // SAFETY: as above.
            switch: unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Object, Object, Object) -> Object>(entry(
                    SWITCH,
                ))
            },
            // SAFETY: as above.
            is_main: unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Object) -> c_int>(entry(MAIN)) },
            // SAFETY: as above.
            parent: unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Object) -> Object>(entry(GET_PARENT))
            },
            context: Attribute::of(&module.getattr("greenlet")?.cast_into::<PyType>()?, c"gr_context"),
            compiled: compiled::ExecutorField::find(py)?,
            counts_are_exact,
            exit: module.getattr("GreenletExit")?.unbind(),
            nothing: PyTuple::empty(py).unbind(),
            base: names::carry(py)?.clone().unbind(),
            get_current: module.getattr("getcurrent")?.unbind(),
        })
    });
    LOADING.fetch_sub(1, Relaxed);
    loaded
}

/// A free-threaded build needs a greenlet that is made for it.
fn check_version(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let text: String = module.getattr("__version__")?.extract()?;
    let numbers: Vec<u32> = text.split('.').map_while(|number| number.parse().ok()).collect();
    if numbers >= vec![3, 5, 4] {
        return Ok(());
    }
    Err(PyImportError::new_err(format!("a free-threaded Python needs greenlet 3.5.4 or newer, and this is {text}")))
}

/// For a forked child. If another thread of the parent was importing greenlet, the module's import lock is held for
/// ever in the child: an import would block.
pub fn after_fork() {
    UNUSABLE.store(LOADING.swap(0, Relaxed) > 0, Relaxed);
}

/// Whether greenlet can be used. If not, a warning says so, once.
pub fn are_there(py: Python<'_>) -> PyResult<bool> {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    match load(py) {
        Ok(_) => Ok(true),
        Err(error) if is_passing(py, &error) => Err(error),
        Err(error) => {
            if !UNUSABLE.load(Relaxed) && !is_being_imported(py) && !IS_TOLD.swap(true, Relaxed) {
                let reason = error.value(py).str()?;
                let message = format!(
                    "greenlet can't be used ({reason}): nested calls run on threads of their own instead of awaiting in \
                     place; install greenlet, or use Bridge(nested=\"thread\")"
                );
                py.import("warnings")?.call_method1("warn", (message, py.get_type::<PyRuntimeWarning>()))?;
            }
            Ok(false)
        }
    }
}

/// Whether greenlet may well be there at the next call: what failed is reading its files, for want of descriptors or
/// memory, or a signal handler raised something.
fn is_passing(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
        || error.is_instance_of::<PyOSError>(py)
        || error.is_instance_of::<PyMemoryError>(py)
}

/// Whether a call is made in the middle of greenlet's own import, by a signal handler or a finalizer.
fn is_being_imported(py: Python<'_>) -> bool {
    let initializing = || -> PyResult<bool> {
        let module = py.import("sys")?.getattr("modules")?.get_item("greenlet")?;
        module.getattr("__spec__")?.getattr("_initializing")?.is_truthy()
    };
    initializing().unwrap_or(false)
}

/// The error for a user who has asked for switching explicitly, where greenlet can't be imported.
pub fn missing(py: Python<'_>, error: PyErr) -> PyErr {
    let missing = PyImportError::new_err(
        "nested=\"switch\" needs greenlet: pip install greenlet; or use nested=\"thread\", which needs nothing",
    );
    errors::from_cause(py, missing, error)
}

/// greenlet's functions, for code that runs only after `load` has succeeded.
pub fn loaded(py: Python<'_>) -> PyResult<&Api> {
    API.get(py).ok_or_else(|| PyRuntimeError::new_err("greenlet is not loaded"))
}

impl Api {
    pub fn current<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: attached.
        let current = unsafe { (self.current)() };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, current) }
    }

    /// A greenlet that calls `carry` with what `start` gives it. When it ends, the thread's main greenlet goes on.
    pub fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let main = self.main(py)?;
        // SAFETY: attached; both are alive.
        let made = unsafe { (self.new)(self.base.as_ptr(), main.as_ptr()) };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, made) }
    }

    fn main<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut greenlet = self.current(py)?;
        // SAFETY: `greenlet` is one.
        while unsafe { (self.is_main)(greenlet.as_ptr()) } == 0 {
            // SAFETY: as above.
            let parent = unsafe { (self.parent)(greenlet.as_ptr()) };
            // SAFETY: a new reference, or null without an exception.
            match unsafe { Bound::from_owned_ptr_or_opt(py, parent) } {
                Some(parent) => greenlet = parent,
                None => break,
            }
        }
        Ok(greenlet)
    }

    /// Switches, and returns when somebody switches back to the greenlet that has called this.
    pub fn switch(&self, to: &Bound<'_, PyAny>) -> PyResult<()> {
        self.switch_with(to, self.nothing.as_ptr())
    }

    /// Starts a new greenlet, and returns as `switch` does.
    pub fn start(&self, greenlet: &Bound<'_, PyAny>, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let args = PyTuple::new(greenlet.py(), [body, self.get_current.bind(greenlet.py())])?;
        self.switch_with(greenlet, args.as_ptr())
    }

    /// As `switch`, without a `PyResult`: for a carrier at rest, whose frames have to stay small. False if it failed,
    /// with the exception set.
    pub fn switch_only(&self, to: &Bound<'_, PyAny>) -> bool {
        let _held = self.compiled.hold(to.py());
        // SAFETY: as in `switch_with`.
        let result = unsafe { (self.switch)(to.as_ptr(), self.nothing.as_ptr(), null_mut()) };
        // SAFETY: a reference of our own, or null.
        unsafe { ffi::Py_XDECREF(result) };
        !result.is_null()
    }

    fn switch_with(&self, to: &Bound<'_, PyAny>, args: Object) -> PyResult<()> {
        let py = to.py();
        let _held = self.compiled.hold(py);
        // SAFETY: attached, in the greenlet's own thread (by 1), and `args` is a tuple that the caller keeps.
        let result = unsafe { (self.switch)(to.as_ptr(), args, null_mut()) };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(drop)
    }

    /// The contextvars context of a greenlet of this thread. For the running one this is the thread's current context.
    pub fn context_of<'py>(&self, greenlet: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match &self.context {
            Some(attribute) => attribute.get(greenlet),
            None => greenlet.getattr(intern!(greenlet.py(), "gr_context")),
        }
    }

    /// Sets the contextvars context of a greenlet that does not run.
    pub fn set_context(&self, greenlet: &Bound<'_, PyAny>, context: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.context {
            Some(attribute) => attribute.set(greenlet, context),
            None => greenlet.setattr(intern!(greenlet.py(), "gr_context"), context),
        }
    }

    /// Whether this is `GreenletExit`, which greenlet throws into a greenlet that nobody can switch to any more.
    pub fn is_exit(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.exit.bind(py))
    }
}
