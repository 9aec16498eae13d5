//! libuv's handles on a loop of uvloop's: what such a loop calls before it sleeps, and what wakes it.
//!
//! uvloop shows extensions its `uv_loop_t` (`uvloop.loop.libuv_get_loop_t_ptr`), and the library that it was built with
//! exports libuv's functions. We take these, and no other libuv: a handle has to be of the loop's own version.
//!
//! Invariants:
//! 1. All but `wake` is called on the loop's thread only. `wake` may not be called after `close`.
//! 2. The handles are closed before the loop is: when uvloop closes its loop, it takes each open handle for one of its
//!    own. Their memory is freed when libuv says that they are closed.
//! 3. They keep no loop running: each is unreferenced as soon as it is made.

use crate::python::names;
use crate::python::once::{Once, intern};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::{CStr, CString, c_void};
use std::os::raw::{c_char, c_int, c_uint};
use std::ptr::NonNull;

type Pointer = *mut c_void;
/// Called by libuv with the handle; on the loop's thread, detached.
pub type Callback = unsafe extern "C" fn(Pointer);

/// `uv_handle_type`, the same in all versions of libuv 1.
const ASYNC: c_int = 1;
const IDLE: c_int = 6;
const PREPARE: c_int = 9;

struct Functions {
    size: unsafe extern "C" fn(c_int) -> usize,
    async_init: unsafe extern "C" fn(Pointer, Pointer, Callback) -> c_int,
    async_send: unsafe extern "C" fn(Pointer) -> c_int,
    prepare_init: unsafe extern "C" fn(Pointer, Pointer) -> c_int,
    prepare_start: unsafe extern "C" fn(Pointer, Callback) -> c_int,
    idle_init: unsafe extern "C" fn(Pointer, Pointer) -> c_int,
    idle_start: unsafe extern "C" fn(Pointer, Callback) -> c_int,
    idle_stop: unsafe extern "C" fn(Pointer) -> c_int,
    unref: unsafe extern "C" fn(Pointer),
    timeout: unsafe extern "C" fn(Pointer) -> c_int,
    close: unsafe extern "C" fn(Pointer, Callback),
}

impl Functions {
    /// Those of uvloop's library. `None` where it has none, or is of another libuv than we know.
    fn load(module: &Bound<'_, PyAny>) -> Option<Self> {
        let file = module.getattr(intern!(module.py(), "__file__")).ok()?.extract::<String>().ok()?;
        let library = Library::loaded(&CString::new(file).ok()?)?;
        // SAFETY: the function's type, in all versions of libuv.
        let version = unsafe { library.get::<unsafe extern "C" fn() -> c_uint>(c"uv_version") }?;
        // SAFETY: it has no preconditions.
        if unsafe { version() } >> 16 != 1 {
            return None;
        }
        Some(Self {
            // SAFETY: as above, and so for all that follow.
            size: unsafe { library.get(c"uv_handle_size") }?,
            // SAFETY: as above.
            async_init: unsafe { library.get(c"uv_async_init") }?,
            // SAFETY: as above.
            async_send: unsafe { library.get(c"uv_async_send") }?,
            // SAFETY: as above.
            prepare_init: unsafe { library.get(c"uv_prepare_init") }?,
            // SAFETY: as above.
            prepare_start: unsafe { library.get(c"uv_prepare_start") }?,
            // SAFETY: as above.
            idle_init: unsafe { library.get(c"uv_idle_init") }?,
            // SAFETY: as above.
            idle_start: unsafe { library.get(c"uv_idle_start") }?,
            // SAFETY: as above.
            idle_stop: unsafe { library.get(c"uv_idle_stop") }?,
            // SAFETY: as above.
            unref: unsafe { library.get(c"uv_unref") }?,
            // SAFETY: as above.
            timeout: unsafe { library.get(c"uv_backend_timeout") }?,
            // SAFETY: as above.
            close: unsafe { library.get(c"uv_close") }?,
        })
    }

    /// Memory for a handle of that type, all zeros.
    fn allocate(&self, kind: c_int) -> Option<NonNull<c_void>> {
        // SAFETY: a type that libuv knows.
        let size = unsafe { (self.size)(kind) };
        // SAFETY: it has no preconditions.
        NonNull::new(unsafe { libc::calloc(1, size) })
    }
}

/// A library that the process has loaded already. It is never unloaded: Python keeps its extension modules.
struct Library(NonNull<c_void>);

impl Library {
    fn loaded(path: &CStr) -> Option<Self> {
        // SAFETY: a C string; with these flags nothing is loaded, and no code of the library runs.
        NonNull::new(unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) }).map(Self)
    }

    /// A function, by its name.
    ///
    /// # Safety
    /// `F` is the type of a pointer to this function.
    unsafe fn get<F: Copy>(&self, name: &CStr) -> Option<F> {
        let name: *const c_char = name.as_ptr();
        // SAFETY: the library stays loaded, and the name is a C string.
        let found = NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name) })?;
        const { assert!(size_of::<F>() == size_of::<NonNull<c_void>>()) };
        // SAFETY: the caller's promise; both are pointers.
        Some(unsafe { std::mem::transmute_copy(&found) })
    }
}

/// Our handles on one loop.
#[derive(Clone, Copy)]
pub struct Handles {
    functions: &'static Functions,
    event_loop: NonNull<c_void>,
    prepare: NonNull<c_void>,
    idle: NonNull<c_void>,
    wake: NonNull<c_void>,
}

// SAFETY: libuv's `uv_async_send` may be called in any thread, and by 1 nothing else is.
unsafe impl Send for Handles {}

extern "C" fn nothing(_: Pointer) {}

/// By 2.
unsafe extern "C" fn free(handle: Pointer) {
    // SAFETY: it came from `calloc`, and libuv does not touch it any more.
    unsafe { libc::free(handle) };
}

impl Handles {
    /// Puts handles on the loop, if it is one of uvloop's and can have them: `before_sleep` is called in each turn,
    /// before the loop sleeps or looks for events, and `woken` after a `wake`.
    pub fn open(event_loop: &Bound<'_, PyAny>, before_sleep: Callback, woken: Callback) -> Option<Self> {
        let py = event_loop.py();
        let module = names::modules(py).ok()?.get_item("uvloop.loop").ok()?;
        if !event_loop.is_instance(&module.getattr("Loop").ok()?).ok()? {
            return None;
        }
        static FUNCTIONS: Once<Option<Functions>> = Once::new();
        let functions = FUNCTIONS.get_or_try_init(py, || Ok(Functions::load(&module))).ok()?.as_ref()?;
        let capsule = module.getattr("libuv_get_loop_t_ptr").ok()?.call1((event_loop,)).ok()?;
        let event_loop = capsule.cast::<PyCapsule>().ok()?.pointer_checked(None).ok()?;
        let handles = Self {
            functions,
            event_loop,
            prepare: functions.allocate(PREPARE)?,
            idle: functions.allocate(IDLE)?,
            wake: functions.allocate(ASYNC)?,
        };
        // SAFETY: an open loop of this thread's, and memory for a handle of that type. The same holds below.
        if unsafe { (functions.async_init)(event_loop.as_ptr(), handles.wake.as_ptr(), woken) } != 0 {
            // libuv keeps no descriptor open. The memory leaks: it is little, and the loop would not get far.
            return None;
        }
        // SAFETY: see above. It can't fail, nor can the others.
        unsafe { (functions.prepare_init)(event_loop.as_ptr(), handles.prepare.as_ptr()) };
        // SAFETY: see above.
        unsafe { (functions.idle_init)(event_loop.as_ptr(), handles.idle.as_ptr()) };
        // SAFETY: a handle that was initialized above.
        unsafe { (functions.prepare_start)(handles.prepare.as_ptr(), before_sleep) };
        for handle in handles.all() {
            // SAFETY: a handle that was initialized above. By 3.
            unsafe { (functions.unref)(handle.as_ptr()) };
        }
        Some(handles)
    }

    fn all(&self) -> [NonNull<c_void>; 3] {
        [self.prepare, self.idle, self.wake]
    }

    /// Whether the loop has nothing to do before the next event or timer. False, too, if it has just begun to watch a
    /// descriptor.
    pub fn is_at_rest(&self) -> bool {
        // SAFETY: by 2 the loop is open.
        unsafe { (self.functions.timeout)(self.event_loop.as_ptr()) != 0 }
    }

    /// Has the loop look for events without sleeping, in this turn and the next ones.
    pub fn keep_awake(&self) {
        // SAFETY: an open handle, by 1 and 2.
        unsafe { (self.functions.idle_start)(self.idle.as_ptr(), nothing) };
    }

    /// Undoes `keep_awake`.
    pub fn let_sleep(&self) {
        // SAFETY: an open handle, by 1 and 2.
        unsafe { (self.functions.idle_stop)(self.idle.as_ptr()) };
    }

    /// Wakes the loop, or has it come round once more; in any thread.
    pub fn wake(&self) {
        // SAFETY: an open handle, by 1.
        unsafe { (self.functions.async_send)(self.wake.as_ptr()) };
    }

    /// By 2. The loop has to turn once more, which its `close` does.
    pub fn close(self) {
        for handle in self.all() {
            // SAFETY: an open handle, which nobody uses any more.
            unsafe { (self.functions.close)(handle.as_ptr(), free) };
        }
    }
}
