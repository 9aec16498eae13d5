//! The floor of a hop on one core, for the row `floor-hop` of the benchmarks: a thread wakes another one that sleeps at
//! its descriptors, as a loop does, and sleeps until that one has woken it. Neither does anything else.
//!
//! It is a library with one C function, which Python calls without the interpreter.

#[cfg(target_os = "linux")]
mod hand_over {
    use rustix::event::{EventfdFlags, epoll, eventfd};
    use rustix::io;
    use rustix::thread::futex;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::{Acquire, Release};
    use std::thread;

    /// A thread that answers this one, until the process ends.
    struct Partner {
        bell: Arc<OwnedFd>,
        answers: Arc<AtomicU32>,
    }

    thread_local! {
        static PARTNER: Option<Partner> = Partner::new().ok();
    }

    impl Partner {
        fn new() -> io::Result<Self> {
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let asleep = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&asleep, &*bell, epoll::EventData::new_u64(0), edge)?;
            let partner = Self { bell, answers: Arc::default() };
            let (bell, answers) = (Arc::clone(&partner.bell), Arc::clone(&partner.answers));
            thread::spawn(move || {
                let _open = bell;
                let mut room = [const { MaybeUninit::uninit() }; 1];
                while epoll::wait(&asleep, &mut room, None).is_ok() {
                    answers.fetch_add(1, Release);
                    let _ = futex::wake(&answers, futex::Flags::PRIVATE, 1);
                }
            });
            Ok(partner)
        }

        fn ask(&self) -> io::Result<()> {
            let before = self.answers.load(Acquire);
            io::write(&self.bell, &1_u64.to_ne_bytes())?;
            while self.answers.load(Acquire) == before {
                // Comes back at once where the answer was there before.
                let _ = futex::wait(&self.answers, futex::Flags::PRIVATE, before, None);
            }
            Ok(())
        }
    }

    /// Wakes this thread's partner, and waits for it. Returns 0, or -1 where the system refuses.
    // SAFETY: nothing else has this name.
    #[unsafe(no_mangle)]
    pub extern "C" fn syncline_hand_over() -> i32 {
        PARTNER.with(|partner| match partner.as_ref().map(Partner::ask) {
            Some(Ok(())) => 0,
            _ => -1,
        })
    }
}
