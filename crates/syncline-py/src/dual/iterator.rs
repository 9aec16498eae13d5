//! `for` and `async for` over one object.

use super::ahead::{item_there, stop_there};
use super::binding::{Binding, Position};
use super::buffer::{Buffer, Supply};
use super::usage::Usage;
use super::wrapped::{self, Wrapped, at_home, bridge_of, describe, goes_home, not_defined, not_wrapping, redefines};
use crate::coroutine::target::{Items, Target};
use crate::python::errors;
use crate::python::names;
use crate::python::once::intern;
use crate::python::process;
use crate::python::signals;
use crate::task::closer::Closer;
use crate::worker::awaiting::Pending;
use pyo3::exceptions::{PyStopAsyncIteration, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType, PyWeakrefReference};
use std::sync::{Arc, OnceLock};

/// The words of messages for the object that is wrapped.
const WHAT: &str = "an async iterable (such as an async generator)";

/// What `syncline.DualIterator` is made of.
#[pyclass(frozen, subclass, module = "syncline._core")]
#[derive(Default)]
pub struct IteratorBase {
    /// The async iterable that this wraps; a subclass that wraps none has `__anext__` itself.
    source: OnceLock<Py<PyAny>>,
    items: OnceLock<Arc<Items>>,
    prefetch: OnceLock<usize>,
    buffer: OnceLock<Arc<Buffer>>,
    pub usage: Usage,
}

impl IteratorBase {
    pub fn wrapped(&self) -> Option<&Py<PyAny>> {
        self.source.get()
    }

    pub fn wrap(&self, source: &Bound<'_, PyAny>, prefetch: usize) -> PyResult<()> {
        wrapped::check(source, WHAT, &[intern!(source.py(), "__aiter__")])?;
        // Set once: a second call of `__init__` changes nothing.
        let _ = self.source.set(source.clone().unbind());
        let _ = self.prefetch.set(prefetch);
        Ok(())
    }

    fn items(&self, object: &Bound<'_, PyAny>) -> PyResult<&Arc<Items>> {
        if let Some(items) = self.items.get() {
            return Ok(items);
        }
        let is_its_own = self.source.get().is_none() && !redefines::<Self>(object, intern!(object.py(), "__aiter__"))?;
        Ok(self.items.get_or_init(|| Arc::new(if is_its_own { Items::of_itself() } else { Items::default() })))
    }

    pub fn source_or_self<'py>(&self, object: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        self.source.get().map_or_else(|| object.clone(), |source| source.bind(object.py()).clone())
    }

    pub fn binding(&self, object: &Bound<'_, PyAny>) -> PyResult<Arc<Binding>> {
        let py = object.py();
        self.usage.binding_or(|| {
            let source = self.source.get();
            let native = source.filter(|_| is_native(py, source));
            if native.is_some() {
                // Imported in time: the object may be dropped where nothing can be imported.
                names::close_dropped(py)?;
            }
            let generator = native.map(|native| PyWeakrefReference::new(native.bind(py))).transpose()?;
            let closer = closes(&self.source_or_self(object)).map_or(Closer::Nothing, |source| Closer::close(&source));
            let open = if self.usage.is_at_home() { Binding::open_at_home } else { Binding::open };
            open(py, bridge_of(object)?, generator.map(Bound::unbind), closer)
        })
    }

    /// Notes that it is used in async code. True if its steps are made on the bridge's loop.
    pub fn begin_async(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.usage.begin_async(|| describe(object, self.wrapped()), || goes_home(object))
    }

    /// The buffer of what is fetched ahead, which is begun with the first item; `None` if nothing is.
    fn ahead(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<(Arc<Buffer>, Arc<Binding>)>> {
        let py = object.py();
        let prefetch = self.prefetch.get().copied().unwrap_or(0);
        if prefetch == 0 {
            return Ok(None);
        }
        let binding = self.binding(object)?;
        // Only on a runner. A loop that the caller drives turns during calls only, so nothing could be fetched ahead.
        let Some(runner) = binding.runner() else { return Ok(None) };
        binding.check(py)?;
        let buffer = self.buffer.get_or_init(|| Buffer::new(prefetch));
        let supply = || -> PyResult<Supply> {
            Ok(Supply { items: Arc::clone(self.items(object)?), source: self.source_or_self(object).unbind() })
        };
        buffer.begin(py, runner, &binding, supply)?;
        Ok(Some((Arc::clone(buffer), binding)))
    }

    /// Whether nothing more comes out of the buffer. Then the use is over.
    fn end_with_buffer(&self, py: Python<'_>, buffer: &Buffer, binding: &Binding) -> bool {
        let is_over = buffer.is_over();
        if is_over {
            self.usage.finish();
            binding.end(py);
        }
        is_over
    }

    /// Makes a step in sync code; `None` at the end.
    pub fn step(
        &self,
        object: &Bound<'_, PyAny>,
        target: impl FnOnce() -> PyResult<Target>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = object.py();
        let binding = self.binding(object)?;
        binding.look_at_loop_here(py)?;
        match binding.step(py, target()?, Position::Inner) {
            Ok(item) => Ok(Some(item)),
            Err(error) => {
                if binding.session.is_ending() {
                    self.usage.finish();
                }
                if error.is_instance_of::<PyStopAsyncIteration>(py) { Ok(None) } else { Err(error) }
            }
        }
    }

    fn next(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = object.py();
        let Some((buffer, binding)) = self.ahead(object)? else {
            let mut has_begun = false;
            let item = self.step(object, || {
                has_begun = true;
                self.next_target(object)
            });
            let is_refused = !has_begun && self.usage.binding().is_some();
            if item.is_err() && !is_refused && !self.usage.is_finished() && !is_native(object.py(), self.source.get()) {
                // An error ends the iteration. (A native async generator says itself whether it is over.)
                self.finish(object)?;
            }
            return item;
        };
        let item = buffer.next(py, &binding);
        if !matches!(item, Ok(Some(_))) {
            self.end_with_buffer(py, &buffer, &binding);
        }
        item
    }

    fn next_target(&self, object: &Bound<'_, PyAny>) -> PyResult<Target> {
        Ok(Target::Next { items: Arc::clone(self.items(object)?), source: self.source_or_self(object).unbind() })
    }

    /// Ends the use without waiting for that. The last step comes after the one that is under way.
    fn give_up(&self, object: &Bound<'_, PyAny>, binding: &Binding) -> PyResult<()> {
        let py = object.py();
        if let (Some(buffer), Some(runner)) = (self.buffer.get(), binding.runner()) {
            buffer.ask_to_stop(py, runner);
        }
        match self.last_target_of_dropped(object)? {
            Some(target) => binding.end_with(py, target),
            None => binding.end(py),
        }
        Ok(())
    }

    /// The step that closes what is iterated over, if that can be closed.
    fn last_target(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<Target>> {
        let source = self.items(object)?.iterator(&self.source_or_self(object));
        match closes(&source) {
            Some(source) => {
                let function = source.getattr(intern!(object.py(), "aclose"))?.unbind();
                Ok(Some(Target::Step { function, args: PyTuple::empty(object.py()).unbind() }))
            }
            None => Ok(None),
        }
    }

    /// The same for an object that is dropped. The garbage collector may have finalized its generator, too.
    fn last_target_of_dropped(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<Target>> {
        let py = object.py();
        let source = self.items(object)?.iterator(&self.source_or_self(object));
        if source.is_instance(names::async_generator_type(py)?)?
            && let Ok(function) = names::close_dropped(py)
        {
            let function = function.clone().unbind();
            return Ok(Some(Target::Step { function, args: PyTuple::new(py, [source])?.unbind() }));
        }
        self.last_target(object)
    }

    /// Ends the use in sync code.
    fn finish(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(binding) = self.usage.binding().filter(|binding| binding.can_go_on()) {
            binding.look_at_loop_here(object.py())?;
        }
        match self.usage.finish() {
            Some(binding) if binding.was_left() => self.give_up(object, &binding),
            Some(binding) if binding.can_go_on() => self.close_at(object, &binding, self.last_target(object)?),
            Some(binding) => self.leave_to_loop(object, &binding, self.last_target(object)?),
            None => Ok(()),
        }
    }

    /// For a loop that makes no more steps: leaves the closing step to the loop's end.
    fn leave_to_loop(&self, object: &Bound<'_, PyAny>, binding: &Binding, target: Option<Target>) -> PyResult<()> {
        if binding.is_of_this_process()
            && let Some(target) = target
        {
            binding.leave_to_loop(target);
        }
        binding.end_with_its_loop(object.py());
        Ok(())
    }

    /// Ends the producer, if there is one, then makes the closing step, and waits for both.
    fn close_at(&self, object: &Bound<'_, PyAny>, binding: &Binding, target: Option<Target>) -> PyResult<()> {
        let py = object.py();
        if let (Some(buffer), Some(runner)) = (self.buffer.get(), binding.runner()) {
            if let Err(error) = buffer.stop(py, runner, binding) {
                // The last step comes after what the producer still does.
                target.map_or_else(|| binding.end(py), |target| binding.end_with(py, target));
                return Err(error);
            }
            if binding.session.is_ending() {
                // The producer's last fetch was cancelled, and that has ended what it iterated over.
                return Ok(());
            }
        }
        match target {
            Some(target) => binding.step(py, target, Position::Last).map(drop),
            None => {
                binding.end(py);
                Ok(())
            }
        }
    }

    /// What was begun in sync code and not ended is closed now, on its loop, and waited for if possible.
    fn end_dropped(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(binding) = this.usage.finish() else { return Ok(()) };
        if !binding.is_of_this_process() {
            // A forked child must not free its parent's loop.
            std::mem::forget(binding);
            return Ok(());
        }
        if !binding.can_go_on() {
            return this.leave_to_loop(slf.as_any(), &binding, this.last_target_of_dropped(slf.as_any())?);
        }
        let may_wait = !this.usage.is_at_home() && !binding.was_left() && !process::is_exiting();
        if may_wait && binding.can_wait(py) {
            let target = this.last_target_of_dropped(slf.as_any())?;
            let closed = this.close_at(slf.as_any(), &binding, target);
            if closed.is_err() && !binding.can_go_on() {
                // The bridge was closed meanwhile, and its loops have closed the generator.
                binding.end_with_its_loop(py);
                return Ok(());
            }
            if !(closed.is_err() && binding.was_left()) {
                return closed;
            }
        }
        this.give_up(slf.as_any(), &binding)
    }
}

/// Whether this is a native async generator.
fn is_native(py: Python<'_>, source: Option<&Py<PyAny>>) -> bool {
    source.is_some_and(|source| {
        names::async_generator_type(py).is_ok_and(|class| source.bind(py).is_instance(class).unwrap_or(false))
    })
}

/// The object, if it has an `aclose` of its own.
fn closes<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let name = intern!(object.py(), "aclose");
    let is_ours = match object.cast::<IteratorBase>() {
        Ok(dual) => dual.get().wrapped().is_none() && !redefines::<IteratorBase>(object, name).unwrap_or(false),
        Err(_) => false,
    };
    let has_it = || signals::unbroken(object.py(), || object.hasattr(name)).unwrap_or(false);
    (!is_ours && has_it()).then(|| object.clone())
}

/// A `prefetch` argument, checked.
struct Prefetch(usize);

impl<'py> FromPyObject<'_, 'py> for Prefetch {
    type Error = PyErr;

    fn extract(prefetch: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(number) = prefetch.extract::<i64>() else {
            let kind = errors::type_name(&prefetch);
            return Err(PyTypeError::new_err(format!("prefetch must be a whole number of items, not {kind}")));
        };
        usize::try_from(number).map(Self).map_err(|_| {
            PyValueError::new_err(format!("prefetch must be 0 (nothing is fetched ahead) or more, not {number}"))
        })
    }
}

#[pymethods]
impl IteratorBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (aiterable=Wrapped(None), *, prefetch=Prefetch(0)))]
    fn __init__(slf: &Bound<'_, Self>, aiterable: Wrapped<'_>, prefetch: Prefetch) -> PyResult<()> {
        match aiterable.0 {
            Some(aiterable) => slf.get().wrap(&aiterable, prefetch.0),
            None if redefines::<Self>(slf.as_any(), intern!(slf.py(), "__aiter__"))?
                || redefines::<Self>(slf.as_any(), intern!(slf.py(), "__anext__"))? =>
            {
                // Set once, by `__init__`.
                let _ = slf.get().prefetch.set(prefetch.0);
                Ok(())
            }
            None => Err(not_wrapping(slf.as_any(), WHAT, "__anext__")),
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let this = slf.get();
        let _in_use = this.usage.begin_sync(|| describe(slf.as_any(), this.wrapped()))?;
        if this.usage.is_finished() { Ok(None) } else { signals::ended(slf.py(), this.next(slf.as_any())) }
    }

    /// Ends the iteration in sync code: an async generator is closed, on its loop. Does nothing the second time.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let _in_use = this.usage.begin_sync(|| describe(slf.as_any(), this.wrapped()))?;
        signals::ended(slf.py(), this.finish(slf.as_any()))
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        match this.wrapped() {
            Some(source) if !this.begin_async(slf.as_any())? => {
                source.bind(slf.py()).call_method0(intern!(slf.py(), "__aiter__"))
            }
            Some(_) | None => Ok(slf.as_any().clone()),
        }
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let Some(source) = this.wrapped() else { return Err(not_defined(slf.as_any(), "__anext__", WHAT)) };
        if this.begin_async(slf.as_any())? {
            return at_home(slf.as_any(), "__anext__", &PyTuple::empty(slf.py()));
        }
        this.items(slf.as_any())?.next(source.bind(slf.py()))
    }

    /// Async code's `close`: an async generator is closed. Does nothing the second time.
    fn aclose<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        if this.wrapped().is_some() && this.begin_async(slf.as_any())? {
            return at_home(slf.as_any(), "aclose", &PyTuple::empty(py));
        }
        let source =
            this.wrapped().and_then(|source| closes(&this.items(slf.as_any()).ok()?.iterator(source.bind(py))));
        match source {
            Some(source) => source.call_method0(intern!(py, "aclose")),
            None => at_home(slf.as_any(), "nothing", &PyTuple::empty(py)),
        }
    }

    /// For _at_home.py, as all that follows: begins a step. False if there is nothing left.
    fn _begin_step(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let this = slf.get();
        this.usage.begin_step(|| describe(slf.as_any(), this.wrapped()))?;
        Ok(!this.usage.is_finished())
    }

    /// Ends a step. If it failed, the use may be over.
    fn _end_step(slf: &Bound<'_, Self>, failed: bool) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.usage.end_step();
        let Some(binding) = this.usage.binding().filter(|_| failed) else { return Ok(()) };
        let is_over = match this.buffer.get() {
            Some(buffer) => this.end_with_buffer(py, buffer, &binding),
            None => binding.session.is_ending(),
        };
        let is_under_way = binding.session.current_call().is_some();
        if is_over || is_under_way {
            this.usage.finish();
        }
        if !is_over && is_under_way { this.give_up(slf.as_any(), &binding) } else { Ok(()) }
    }

    /// A step, to be awaited: the next item, or the call of a method.
    fn _step_there(slf: &Bound<'_, Self>, method: Option<&str>, args: Py<PyTuple>) -> PyResult<Pending> {
        let this = slf.get();
        let binding = this.binding(slf.as_any())?;
        let target = match method {
            Some(method) => {
                let function = this.source_or_self(slf.as_any()).getattr(method)?.unbind();
                Target::Step { function, args }
            }
            None => this.next_target(slf.as_any())?,
        };
        binding.step_at_home(slf.py(), target, Position::Inner)
    }

    /// Whether the next of the items that are fetched ahead is there, and the item, or what is to be awaited for it;
    /// `None` if none are fetched ahead.
    fn _ahead(slf: &Bound<'_, Self>) -> PyResult<(bool, Option<Py<PyAny>>)> {
        let (py, this) = (slf.py(), slf.get());
        let Some((buffer, binding)) = this.ahead(slf.as_any())? else { return Ok((false, None)) };
        match buffer.take_there(py, &binding) {
            Some(taken) => taken.map(|item| (true, Some(item))),
            None => Ok((false, Some(Bound::new(py, item_there(&buffer, &binding))?.into_any().unbind()))),
        }
    }

    /// What ends the fetching of items ahead, to be awaited; `None` if none are fetched.
    fn _stop_there(slf: &Bound<'_, Self>) -> Option<Pending> {
        let this = slf.get();
        stop_there(slf.py(), this.buffer.get()?, &this.usage.binding()?)
    }

    /// The last step, to be awaited; `None` if there is none. No other step comes after it.
    fn _last_there(slf: &Bound<'_, Self>) -> PyResult<Option<Pending>> {
        let (py, this) = (slf.py(), slf.get());
        let Some(binding) = this.usage.finish().filter(|binding| !binding.session.is_ending()) else {
            return Ok(None);
        };
        let target = this.last_target(slf.as_any())?;
        if !binding.can_go_on() {
            return this.leave_to_loop(slf.as_any(), &binding, target).map(|()| None);
        }
        match target {
            Some(target) => binding.step_at_home(py, target, Position::Last).map(Some),
            None => {
                binding.end(py);
                Ok(None)
            }
        }
    }

    /// Serves as `__del__`. It has no frame of Python's, in which an error that a signal handler raises would be lost.
    fn _drop(slf: &Bound<'_, Self>) -> PyResult<()> {
        match signals::in_finalizer(slf.py(), || Self::end_dropped(slf)) {
            // Its loop has ended, or its session with the making of a task that was broken off: there is nothing to end.
            Err(error) if errors::are_of_closing(slf.py(), &error) => Ok(()),
            ended => ended,
        }
    }

    fn _held<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let this = slf.get();
        let held = wrapped::held(slf.as_any(), "aiterable", this.wrapped(), this.usage.is_at_rest())?;
        if let Some(prefetch) = this.prefetch.get() {
            held.set_item("prefetch", prefetch)?;
        }
        Ok(held)
    }

    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        names::parametrized(class, item)
    }

    /// Items fetched ahead are not visited: the loop's task keeps their buffer, too. There is no `__clear__`: the
    /// collector opens a ring at another object that the source refers to.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(source) = self.source.get() {
            visit.call(source)?;
        }
        // Not while a step is under way, which keeps them as well.
        match self.items.get() {
            Some(items) if Arc::strong_count(items) == 1 => items.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        wrapped::repr(slf.as_any(), slf.get().source.get())
    }
}
