//! When a thread may spin (poll in a busy loop) for a short while before it sleeps, and when not.
//!
//! Sleeping and being woken on another core costs 30 to 50 microseconds; a result that arrives sooner is met by a spin
//! for a tenth of that. But a spin that fails is CPU time stolen from whoever could have produced the result.
//!
//! Rules:
//! 1. No spin where the process may use one core only, nor when the other thread last ran on our own core.
//! 2. For each `Spin`, one thread spins at a time. Any number may make way (7).
//! 3. After some failures in a row, attempts are passed over (made without a spin): two, then twice as many after each
//!    further failure, up to 32. One success resets this.
//! 4. Where the interpreter is contended, many attempts are passed over (`note_attach`). One slow attempt to get it is
//!    no contention: the system may have taken the core away for a moment. So it has to come again within some turns.
//! 5. Two threads that both sleep miss each other again and again: each wakes up too late for the other's short spin.
//!    So the spin after a failure is a longer one (a probe), which lasts longer than a wake-up takes.
//! 6. By 5 only where nobody else waits for the same thread. Else that thread has more to do than our call, and the
//!    others need the core: a failed spin is followed by no probe, and attempts are passed over from the first
//!    failure on.
//! 7. On one core, a thread that has just called another one, or done what it was called for, makes way for it in the
//!    place of a spin. Not every system runs a thread that wakes up before the one that has woken it, so the two would
//!    go to sleep twice where once is enough, or not at all is. Threads that call the same one all make way: it comes
//!    after the last of them, and has what all of them want when the first comes again. Where that took long, others want
//!    the core to compute, and it is not done for a while. Once is no sign of that, either: it may have been the
//!    program's own code, after its call.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

/// About what one sleep and wake-up costs: spinning longer than that loses even when it wins.
pub const BUDGET: Duration = Duration::from_micros(20);
const MOST_PASSED_OVER: u32 = 32;
/// How long the spin after a failure lasts, by 5: longer than a sleep and a wake-up take.
pub const PROBE: Duration = Duration::from_micros(80);
/// So many failures in a row are allowed, by 3, before attempts are passed over.
const PROBES_AT_ONCE: u32 = 2;

/// If it takes longer than that to get the interpreter, another thread hogs it. Without contention it takes well
/// under a microsecond.
pub const SLOW_ATTACH: Duration = Duration::from_micros(200);
/// If it takes longer than that to make way, another thread has computed meanwhile: Linux gives it 0.7 ms or more, up to
/// the next tick of its clock. A hundred threads that only make calls need less, also where one of them makes way and
/// the others sleep, which go first as they wake up.
const SLOW_WAY: Duration = Duration::from_millis(1);
/// So many attempts are passed over after that, by 4: at the first, the second, and each further time.
const TURNS_HELD_OFF: [u32; 3] = [2, 32, 256];
/// So many quick turns make up for a slow one, by 4 and 7.
const QUICK_FOR_SLOW: u32 = 16;
/// So often a thread makes way, by 7: the other one may have to let a third one go first.
const TIMES_TO_MAKE_WAY: u32 = 2;
/// So many attempts are passed over after that took long, by 7: at the first, the second, and each further time.
const TURNS_TO_KEEP: [u32; 3] = [32, 512, 16384];

/// Stands for the core of a thread where it is not known.
pub const UNKNOWN_CPU: u32 = u32::MAX;

/// The core that this thread runs on now.
pub fn current_cpu() -> u32 {
    #[cfg(all(target_os = "linux", not(miri)))]
    return u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(UNKNOWN_CPU);
    #[cfg(not(all(target_os = "linux", not(miri))))]
    UNKNOWN_CPU
}

/// How many cores this process may use.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a `Spin` does next, and why: for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inclination {
    /// False by 1: the process could use one core only when this `Spin` was made.
    pub allowed: bool,
    /// Failures in a row.
    pub failures: u32,
    /// How many attempts will be made without a spin, by 3, 4 or 6.
    pub passes_over: u32,
}

/// How many quick turns are wanted to make up for the slow ones.
#[derive(Debug, Default)]
struct Owed(AtomicU32);

impl Owed {
    /// Notes a slow turn. Returns how many attempts are passed over for it.
    fn slow(&self, held_off: &[u32; 3]) -> u32 {
        let owed = self.0.load(Relaxed);
        let most = QUICK_FOR_SLOW * held_off.len() as u32;
        self.0.store((owed + QUICK_FOR_SLOW).min(most), Relaxed);
        let times = owed.div_ceil(QUICK_FOR_SLOW) as usize;
        held_off[times.min(held_off.len() - 1)]
    }

    fn quick(&self) {
        let owed = self.0.load(Relaxed);
        if owed > 0 {
            self.0.store(owed - 1, Relaxed);
        }
    }
}

#[derive(Debug)]
pub struct Spin {
    allowed: bool,
    /// Whether it makes way on one core, by 7.
    makes_way: bool,
    busy: AtomicBool,
    failures: AtomicU32,
    pass_over: AtomicU32,
    /// For turns in which the interpreter was slow to come, by 4.
    attaching: Owed,
    /// For turns in which it took long to make way, by 7.
    way: Owed,
    won: AtomicU64,
    lost: AtomicU64,
}

impl Spin {
    pub fn new(usable_cores: usize) -> Self {
        Self {
            allowed: usable_cores > 1,
            // Not in loom's models: how long it takes decides what comes next, and they have no clock.
            makes_way: usable_cores == 1 && !cfg!(loom),
            busy: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            pass_over: AtomicU32::new(0),
            attaching: Owed::default(),
            way: Owed::default(),
            won: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Polls `done` for a short while, if that can pay; returns whether it was true. `other_cpu` is the core on which
    /// the thread that we wait for ran last; `is_alone` says, for 6, that nobody else waits for that thread.
    pub fn attempt(&self, other_cpu: u32, is_alone: bool, done: impl Fn() -> bool) -> bool {
        if done() {
            return true;
        }
        if !self.may_start(other_cpu) {
            return false;
        }
        // Whoever makes way takes nothing from others that wait.
        let is_alone = is_alone || self.makes_way;
        let probes = is_alone && self.failures.load(Relaxed) > 0;
        let longest = if probes { PROBE } else { BUDGET };
        let won = if self.makes_way { self.make_way(done) } else { self.spin(longest, done) };
        self.record(won, is_alone);
        self.busy.store(false, Release);
        won
    }

    /// Spins a little longer where some of what is expected has come: the rest should follow soon. Not counted.
    pub fn linger(&self, other_cpu: u32, done: impl Fn() -> bool) {
        if self.allowed && other_cpu != current_cpu() {
            poll(BUDGET, done);
        }
    }

    /// Where there is one core: whether a thread that wakes another one should let go of the interpreter for that. The
    /// other one comes at once then, and is often done when the first goes on. Not where others contend for the
    /// interpreter, by 4.
    pub fn gives_way(&self) -> bool {
        !self.allowed && !self.passes_over()
    }

    /// Notes how long it took to get the interpreter back. Where other threads contend for it, a spin takes CPU time
    /// from them.
    pub fn note_attach(&self, took: Duration) {
        if took <= SLOW_ATTACH {
            return self.attaching.quick();
        }
        let held_off = self.attaching.slow(&TURNS_HELD_OFF);
        let held_off = if self.makes_way { TURNS_HELD_OFF[2] } else { held_off };
        self.pass_over.fetch_max(held_off, Relaxed);
    }

    /// How many spins met what they waited for, and how many did not. A thread that makes way does not spin.
    pub fn counts(&self) -> (u64, u64) {
        (self.won.load(Relaxed), self.lost.load(Relaxed))
    }

    pub fn inclination(&self) -> Inclination {
        Inclination {
            allowed: self.allowed,
            failures: self.failures.load(Relaxed),
            passes_over: self.pass_over.load(Relaxed),
        }
    }

    fn may_start(&self, other_cpu: u32) -> bool {
        let can = self.makes_way || (self.allowed && other_cpu != current_cpu());
        can && !self.passes_over() && (self.makes_way || !self.busy.swap(true, Acquire))
    }

    fn spin(&self, longest: Duration, done: impl Fn() -> bool) -> bool {
        let won = poll(longest, done);
        (if won { &self.won } else { &self.lost }).fetch_add(1, Relaxed);
        won
    }

    fn make_way(&self, done: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        let won = (0..TIMES_TO_MAKE_WAY).any(|_| {
            std::thread::yield_now();
            done()
        });
        if begun.elapsed() > SLOW_WAY {
            self.pass_over.fetch_max(self.way.slow(&TURNS_TO_KEEP), Relaxed);
        } else {
            self.way.quick();
        }
        won
    }

    fn passes_over(&self) -> bool {
        self.pass_over.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn record(&self, won: bool, is_alone: bool) {
        if won {
            self.failures.store(0, Relaxed);
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed);
        let tries = if is_alone { PROBES_AT_ONCE } else { 0 };
        if let Some(in_vain) = failures.checked_sub(tries) {
            self.pass_over.store((2 << in_vain.min(16)).min(MOST_PASSED_OVER), Relaxed);
        }
    }
}

fn poll(longest: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + longest;
    // The clock is read between any two polls. That is quick enough: it hardly delays the next poll.
    loop {
        std::hint::spin_loop();
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A core on which no thread of a test runs.
    const ELSEWHERE: u32 = u32::MAX - 1;

    #[test]
    fn one_core_never_spins() {
        let polls = Cell::new(0);
        let spin = Spin::new(1);
        assert!(!spin.attempt(ELSEWHERE, true, || {
            polls.set(polls.get() + 1);
            false
        }));
        assert_eq!(polls.get(), 1 + TIMES_TO_MAKE_WAY);
    }

    #[test]
    fn on_one_core_a_thread_gives_way_unless_the_interpreter_is_contended() {
        assert!(!Spin::new(2).gives_way());
        let spin = Spin::new(1);
        assert!(spin.gives_way());
        spin.note_attach(SLOW_ATTACH * 2);
        for _ in 0..TURNS_HELD_OFF[2] {
            assert!(!spin.gives_way());
        }
        assert!(spin.gives_way());
    }

    #[test]
    fn on_one_core_a_thread_makes_way_unless_that_takes_long() {
        assert!(Spin::new(1).attempt(ELSEWHERE, true, yes_at_second_look()));
        let spin = Spin::new(1);
        let long = || {
            std::thread::sleep(SLOW_WAY * 2);
            true
        };
        let looks = Cell::new(0);
        let attempt = || {
            looks.set(0);
            assert!(spin.attempt(ELSEWHERE, true, || looks.replace(looks.get() + 1) > 0 && long()));
        };
        for held_off in TURNS_TO_KEEP {
            attempt();
            assert_eq!(spin.inclination().passes_over, held_off);
            while spin.passes_over() {}
        }
    }

    #[test]
    fn on_one_core_any_number_of_threads_make_way_at_a_time() {
        let spin = Spin::new(1);
        let nested = Cell::new(None);
        let looks = Cell::new(0);
        spin.attempt(ELSEWHERE, false, || {
            // The first look comes before the attempt is one.
            if looks.replace(looks.get() + 1) == 1 {
                nested.set(Some(spin.attempt(ELSEWHERE, false, yes_at_second_look())));
            }
            nested.get().is_some()
        });
        assert_eq!(nested.get(), Some(true));
    }

    #[test]
    fn quick_turns_make_up_for_a_slow_one() {
        let owed = Owed::default();
        for _ in 0..2 {
            assert_eq!(owed.slow(&TURNS_TO_KEEP), TURNS_TO_KEEP[0]);
            (0..QUICK_FOR_SLOW).for_each(|_| owed.quick());
        }
    }

    #[test]
    fn failures_make_spins_rarer_and_a_success_brings_them_back() {
        let spin = Spin::new(2);
        for _ in 0..1000 {
            assert!(!spin.attempt(ELSEWHERE, true, || false));
        }
        let (won, lost) = spin.counts();
        assert_eq!(won, 0);
        assert!(lost < 50, "{lost} spins were lost");
        while spin.counts().0 == 0 {
            let polls = Cell::new(0);
            spin.attempt(ELSEWHERE, true, || polls.replace(polls.get() + 1) > 0);
        }
        assert_eq!(spin.failures.load(Relaxed), 0);
    }

    /// How many attempts are passed over before one spins.
    fn passed_over(spin: &Spin) -> u32 {
        (0..).find(|_| spin.attempt(ELSEWHERE, true, yes_at_second_look())).unwrap_or(u32::MAX)
    }

    fn yes_at_second_look() -> impl Fn() -> bool {
        let looks = Cell::new(0);
        move || looks.replace(looks.get() + 1) > 0
    }

    #[test]
    fn one_slow_turn_is_no_contention_and_several_are() {
        let (spin, slow) = (Spin::new(2), SLOW_ATTACH * 2);
        spin.note_attach(slow);
        assert_eq!(passed_over(&spin), TURNS_HELD_OFF[0]);
        for _ in 0..QUICK_FOR_SLOW {
            spin.note_attach(Duration::ZERO);
        }
        spin.note_attach(slow);
        assert_eq!(passed_over(&spin), TURNS_HELD_OFF[0]);
        spin.note_attach(slow);
        assert_eq!(passed_over(&spin), TURNS_HELD_OFF[1]);
        for _ in 0..10 {
            spin.note_attach(slow);
            assert_eq!(passed_over(&spin), TURNS_HELD_OFF[2]);
        }
        for _ in 0..3 * QUICK_FOR_SLOW {
            spin.note_attach(Duration::ZERO);
        }
        spin.note_attach(slow);
        assert_eq!(passed_over(&spin), TURNS_HELD_OFF[0]);
    }

    #[test]
    fn a_report_says_why_there_are_no_spins() {
        assert!(!Spin::new(1).inclination().allowed);
        let spin = Spin::new(2);
        assert_eq!(spin.inclination(), Inclination { allowed: true, failures: 0, passes_over: 0 });
        spin.attempt(ELSEWHERE, false, || false);
        assert_eq!(spin.inclination(), Inclination { allowed: true, failures: 1, passes_over: 2 });
        spin.note_attach(2 * SLOW_ATTACH);
        assert_eq!(spin.inclination(), Inclination { allowed: true, failures: 1, passes_over: TURNS_HELD_OFF[0] });
    }

    #[test]
    fn only_one_thread_spins_at_a_time() {
        let spin = Spin::new(2);
        let nested = Cell::new(None);
        spin.attempt(ELSEWHERE, true, || {
            if nested.get().is_none() {
                nested.set(Some(false));
                return false;
            }
            nested.set(Some(spin.attempt(ELSEWHERE, true, || false)));
            true
        });
        assert_eq!(nested.get(), Some(false));
        assert_eq!(spin.counts(), (1, 0));
    }
}
