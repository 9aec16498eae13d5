//! Context managers that serve both worlds: entered and left in one task and context.

use super::binding::{Binding, Position};
use super::usage::Usage;
use super::wrapped::{self, Wrapped, at_home, bridge_of, describe, goes_home, not_defined, not_wrapping, redefines};
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::signals;
use crate::task::closer::Closer;
use crate::worker::awaiting::Pending;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// The words of messages for the object that is wrapped.
const WHAT: &str = "an async context manager";

/// What `syncline.DualContextManager` is made of.
#[pyclass(frozen, subclass, module = "syncline._core")]
#[derive(Default)]
pub struct ManagerBase {
    source: OnceLock<Py<PyAny>>,
    usage: Usage,
    /// Whether it was made of a generator, which is good for one use.
    is_single_use: AtomicBool,
    was_used: AtomicBool,
    /// Whether dropping it while it is entered gives the managed object up. Otherwise that is left when its loop ends.
    gives_up: AtomicBool,
}

impl ManagerBase {
    fn name(slf: &Bound<'_, Self>) -> String {
        describe(slf.as_any(), slf.get().source.get())
    }

    fn check_single_use(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.was_used.swap(true, Relaxed) && this.is_single_use.load(Relaxed) {
            return Err(Self::good_for_one_use(slf));
        }
        Ok(())
    }

    /// A method of the manager that is wrapped, or of the subclass.
    fn method<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().source.get() {
            Some(source) => source.bind(slf.py()).getattr(name),
            None if name == "__aenter__" && Self::enters_itself(slf)? => Self::itself(slf),
            None => slf.as_any().getattr(name),
        }
    }

    /// Whether a subclass only says how it is left. Then entering gives the object itself, as with contextlib's classes.
    fn enters_itself(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (object, py) = (slf.as_any(), slf.py());
        Ok(!redefines::<Self>(object, intern!(py, "__aenter__"))?
            && redefines::<Self>(object, intern!(py, "__aexit__"))?)
    }

    /// The async method that enters such an object.
    fn itself<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_any().getattr(intern!(slf.py(), "_itself"))
    }

    /// It was entered, and a signal handler's exception came on the way out: no `with` block will leave it. What
    /// `__aexit__` returns counts for nothing, as there is no value to go on with.
    fn leave_again(slf: &Bound<'_, Self>, binding: &Binding, error: &PyErr) -> PyResult<()> {
        let py = slf.py();
        let left = Self::method(slf, intern!(slf.py(), "__aexit__")).and_then(|function| {
            let args = (error.get_type(py), error.value(py), error.traceback(py)).into_pyobject(py)?.unbind();
            binding.step(py, Target::Step { function: function.unbind(), args }, Position::Last)
        });
        slf.get().end_use(binding);
        left.map(drop)
    }

    /// After a last step: the manager may be entered anew. If that was refused (in scope "caller" to another thread, for
    /// example), it is still entered.
    fn end_use(&self, binding: &Binding) {
        if binding.session.is_ending() || !binding.can_go_on() {
            self.usage.reset();
        }
    }

    fn twin<'py>(slf: &Bound<'py, Self>, name: &str, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let Some(source) = this.source.get() else {
            if name == "__aenter__" && Self::enters_itself(slf)? {
                return Self::itself(slf)?.call0();
            }
            return Err(not_defined(slf.as_any(), name, WHAT));
        };
        this.usage.begin_async(|| Self::name(slf), || Ok(false))?;
        // Each time anew: it may be entered on one loop after the other.
        if goes_home(slf.as_any())? {
            return at_home(slf.as_any(), name, args);
        }
        if name == "__aenter__" {
            Self::check_single_use(slf)?;
        }
        source.bind(slf.py()).call_method1(name, args)
    }

    /// The words of contextlib's managers, as they are entered a second time, tell nobody what is wrong.
    #[cold]
    fn used_up(slf: &Bound<'_, Self>, error: PyErr) -> PyErr {
        let py = slf.py();
        let is_contextlibs = slf.get().source.get().is_some_and(|source| {
            let source = source.bind(py);
            source.hasattr(intern!(py, "gen")).unwrap_or(false) && !source.hasattr(intern!(py, "args")).unwrap_or(true)
        });
        let says_so =
            || error.value(py).to_string() == "'_AsyncGeneratorContextManager' object has no attribute 'args'";
        if is_contextlibs && error.is_instance_of::<PyAttributeError>(py) && says_so() {
            return Self::good_for_one_use(slf);
        }
        error
    }

    fn good_for_one_use(slf: &Bound<'_, Self>) -> PyErr {
        PyRuntimeError::new_err(format!(
            "{} was used already, and its generator is good for one `with`; call the function again",
            Self::name(slf)
        ))
    }

    fn refuse_entered(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().usage.binding().is_none() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "{} is entered already; leave it first, or make another one",
            Self::name(slf)
        )))
    }

    /// The step that enters it.
    fn entering(slf: &Bound<'_, Self>) -> PyResult<Target> {
        let function = Self::method(slf, intern!(slf.py(), "__aenter__"))?.unbind();
        Ok(Target::Step { function, args: PyTuple::empty(slf.py()).unbind() })
    }

    fn entered(slf: &Bound<'_, Self>) -> PyResult<Arc<Binding>> {
        slf.get().usage.binding().ok_or_else(|| {
            PyRuntimeError::new_err(format!("{} is not entered; use it in a `with` statement", Self::name(slf)))
        })
    }

    /// What leaves it if its loop ends first.
    fn closer(slf: &Bound<'_, Self>) -> Closer {
        let source = slf.get().source.get();
        Closer::Leave(source.map_or_else(|| slf.clone().into_any().unbind(), |source| source.clone_ref(slf.py())))
    }
}

impl Drop for ManagerBase {
    fn drop(&mut self) {
        let binding = if self.gives_up.load(Relaxed) { self.usage.binding() } else { None };
        if let Some(binding) = binding.filter(|binding| binding.can_go_on() && !binding.session.is_ending()) {
            errors::in_destructor(|py| binding.give_up(py));
        }
    }
}

#[pymethods]
impl ManagerBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (acm=Wrapped(None)))]
    fn __init__(slf: &Bound<'_, Self>, acm: Wrapped<'_>) -> PyResult<()> {
        let Some(acm) = &acm.0 else {
            let py = slf.py();
            return if redefines::<Self>(slf.as_any(), intern!(py, "__aenter__"))? || Self::enters_itself(slf)? {
                Ok(())
            } else {
                Err(not_wrapping(slf.as_any(), WHAT, "__aenter__ and __aexit__"))
            };
        };
        let py = slf.py();
        wrapped::check(acm, WHAT, &[intern!(py, "__aenter__"), intern!(py, "__aexit__")])?;
        // Set once: a second call of `__init__` changes nothing.
        let _ = slf.get().source.set(acm.clone().unbind());
        Ok(())
    }

    /// Has it give up what it manages if it is dropped while that is entered.
    fn _give_up_when_dropped(&self) {
        self.gives_up.store(true, Relaxed);
    }

    /// Whether sync code has entered it, and has not left it.
    fn _is_entered(&self) -> bool {
        self.usage.binding().is_some()
    }

    /// Marks one that is good for a single use.
    fn _once(&self) {
        self.is_single_use.store(true, Relaxed);
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let exit = intern!(py, "__aexit__");
        if this.source.get().is_none() && !redefines::<Self>(slf.as_any(), exit)? {
            return Err(not_defined(slf.as_any(), &exit.to_string(), WHAT));
        }
        let _in_use = this.usage.begin_sync(|| Self::name(slf))?;
        Self::refuse_entered(slf)?;
        Self::check_single_use(slf)?;
        let binding = this.usage.binding_or(|| Binding::open(py, bridge_of(slf.as_any())?, None, Closer::Nothing))?;
        let entered = Self::entering(slf).and_then(|target| binding.step(py, target, Position::Inner));
        match signals::ended(py, entered) {
            Ok(entered) => {
                binding.session.on_shutdown(Self::closer(slf));
                Ok(entered)
            }
            Err(error) if binding.session.has_returned() => {
                signals::ended(py, Self::leave_again(slf, &binding, &error).and(Err(error)))
            }
            Err(error) => {
                // If it goes on, as nobody waits for it any more, and enters all the same, it is left.
                binding.session.on_shutdown(Self::closer(slf));
                binding.end_by_closer(py);
                this.usage.reset();
                signals::ended(py, Err(Self::used_up(slf, error)))
            }
        }
    }

    /// For Python code between `__enter__` and the block, which an error has broken off: leaves it again, as there will
    /// be no block. Raises what that raises. Does nothing if it is not entered.
    #[pyo3(signature = (error, /))]
    fn _leave_again(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let _in_use = this.usage.begin_sync(|| Self::name(slf))?;
        let Some(binding) = this.usage.binding() else { return Ok(()) };
        signals::ended(py, Self::leave_again(slf, &binding, &PyErr::from_value(error.clone())))
    }

    #[pyo3(signature = (exc_type, exc_value, traceback, /))]
    fn __exit__<'py>(
        slf: &Bound<'py, Self>,
        exc_type: Bound<'py, PyAny>,
        exc_value: Bound<'py, PyAny>,
        traceback: Bound<'py, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let _in_use = this.usage.begin_sync(|| Self::name(slf))?;
        let binding = Self::entered(slf)?;
        let function = Self::method(slf, intern!(slf.py(), "__aexit__"))?.unbind();
        let args = (exc_type, exc_value, traceback).into_pyobject(py)?.unbind();
        let left = binding.step(py, Target::Step { function, args }, Position::Last);
        this.end_use(&binding);
        signals::ended(py, left)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::twin(slf, "__aenter__", &PyTuple::empty(slf.py()))
    }

    #[pyo3(signature = (exc_type, exc_value, traceback, /))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exc_type: Bound<'py, PyAny>,
        exc_value: Bound<'py, PyAny>,
        traceback: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::twin(slf, "__aexit__", &(exc_type, exc_value, traceback).into_pyobject(slf.py())?)
    }

    /// For _at_home.py, as all that follows: what its `async with` raises for an error of entering.
    #[pyo3(name = "_used_up")]
    fn why_used_up<'py>(slf: &Bound<'py, Self>, error: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        let raised = Self::used_up(slf, PyErr::from_value(error.clone()));
        errors::object(slf.py(), &raised).into_any()
    }

    /// The step that enters it, to be awaited.
    fn _enter_there(slf: &Bound<'_, Self>) -> PyResult<Pending> {
        let (py, this) = (slf.py(), slf.get());
        this.usage.begin_step(|| Self::name(slf))?;
        let begun = Self::refuse_entered(slf).and_then(|()| {
            Self::check_single_use(slf)?;
            let open = || Binding::open_at_home(py, bridge_of(slf.as_any())?, None, Self::closer(slf));
            this.usage.binding_or(open)?.step_at_home(py, Self::entering(slf)?, Position::Inner)
        });
        begun.inspect_err(|_| this.usage.end_step())
    }

    /// The step that leaves it, to be awaited.
    fn _leave_there(slf: &Bound<'_, Self>, args: Py<PyTuple>) -> PyResult<Pending> {
        let (py, this) = (slf.py(), slf.get());
        this.usage.begin_step(|| Self::name(slf))?;
        let begun = Self::entered(slf).and_then(|binding| {
            let function = Self::method(slf, intern!(slf.py(), "__aexit__"))?.unbind();
            binding.step_at_home(py, Target::Step { function, args }, Position::Last)
        });
        begun.inspect_err(|_| Self::_end_step(slf, false))
    }

    /// After one of these steps. One that failed to enter ends the use; if it goes on and enters all the same, it is
    /// left.
    fn _end_step(slf: &Bound<'_, Self>, failed_to_enter: bool) {
        let (py, this) = (slf.py(), slf.get());
        if let Some(binding) = this.usage.binding() {
            if failed_to_enter {
                binding.end_by_closer(py);
            }
            if failed_to_enter || binding.session.is_ending() || !binding.can_go_on() {
                this.usage.reset();
            }
        }
        this.usage.end_step();
    }

    fn _held<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let this = slf.get();
        let is_used_up = this.is_single_use.load(Relaxed) && this.was_used.load(Relaxed);
        wrapped::held(slf.as_any(), "acm", this.source.get(), this.usage.is_at_rest() && !is_used_up)
    }

    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        names::parametrized(class, item)
    }

    /// There is no `__clear__`: the collector opens a ring at another object that the manager refers to.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.source.get().map_or(Ok(()), |source| visit.call(source))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        wrapped::repr(slf.as_any(), slf.get().source.get())
    }
}
