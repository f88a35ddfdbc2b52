//! What the operating system is asked for without the compiler's help: memory, and to be told before the process ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;

/// The system's memory, for a program that tells its user where there is none left: see [`on_exhaustion`].
#[derive(Debug, Clone, Copy)]
pub struct Told;

/// What [`on_exhaustion`] was told.
static EXHAUSTED: OnceLock<fn(Option<usize>) -> i32> = OnceLock::new();

/// What the system gave for `bytes`; nothing is told while nobody wants to be.
#[inline]
fn given(at: *mut u8, bytes: usize) -> *mut u8 {
    if at.is_null() {
        exhausted(Some(bytes));
    }
    at
}

/// Ends the process as [`on_exhaustion`] was told, if it was.
#[cold]
fn exhausted(bytes: Option<usize>) {
    if let Some(tell) = EXHAUSTED.get() {
        end(tell(bytes));
    }
}

// SAFETY: every call is the system's own, whose contract is the same.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Told {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        given(unsafe { System.alloc(layout) }, layout.size())
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        given(unsafe { System.realloc(at, layout, bytes) }, bytes)
    }
    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// From now on, where memory that is needed is not there, `tell` is called with how many bytes were asked for, and the
/// process ends with the code that it gives: for a program whose allocator is [`Told`]. Where the standard library ends
/// the process, as it does when a stack is full, it has said why, and nothing was asked for. Holds for the whole process;
/// the first stays.
pub fn on_exhaustion(tell: fn(Option<usize>) -> i32) {
    let _ = EXHAUSTED.set(tell); // the first stays
    #[cfg(unix)]
    on_signal(libc::SIGABRT, |_| exhausted(None));
}

/// What [`on_lost_file`] was told.
static LOST: OnceLock<fn(&str)> = OnceLock::new();

/// From now on, where a mapped file has lost the bytes that a thread reads, `report` is called on that thread with the
/// file's path. If it returns, the signal ends the process. The first stays. Does nothing where there is no SIGBUS.
pub fn on_lost_file(report: fn(&str)) {
    let _ = LOST.set(report); // the first stays
    // The signal is raised by the thread's own read of a mapping, during which it holds no lock and is inside no allocation:
    // neither can be left half done.
    #[cfg(unix)]
    on_signal(libc::SIGBUS, |at| {
        if let (Some(report), Some(file)) = (LOST.get(), mapped_at(at)) {
            report(&file);
        }
    });
}

/// The file that is mapped at this address, from the working folder on where it lies in that.
#[cfg(unix)]
fn mapped_at(at: usize) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("a mapped file".into());
    }
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let (_, path) = maps.lines().filter_map(mapping).find(|((start, end), _)| (*start..*end).contains(&at))?;
    let path = std::path::Path::new(path);
    let inside = std::env::current_dir().ok().and_then(|folder| path.strip_prefix(folder).ok());
    Some(inside.unwrap_or(path).display().to_string())
}

/// A line of `maps` that is a file's: where it lies, and its path.
#[cfg(unix)]
fn mapping(line: &str) -> Option<((usize, usize), &str)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let path = &line[line.find('/')?..];
    Some(((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?), path))
}

/// `told` is called, with the address that the signal is about, on the thread that raises it; then the signal does what it
/// would have done.
#[cfg(unix)]
#[allow(unsafe_code)]
fn on_signal(signal: libc::c_int, told: fn(usize)) {
    static TOLD: [OnceLock<fn(usize)>; 32] = [const { OnceLock::new() }; 32];
    extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the system passes a valid siginfo_t; where it holds no address, nobody looks at it.
        let at = unsafe { (*info).si_addr() } as usize;
        if let Some(told) = TOLD.get(signal as usize).and_then(OnceLock::get) {
            told(at);
        }
        // SAFETY: the default action is always a valid one. The read is tried again, or the abort goes on.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let Some(place) = TOLD.get(signal as usize) else { return };
    let _ = place.set(told);
    // SAFETY: all-zero is a valid sigaction; the handler has the type that SA_SIGINFO asks for, and stays.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Ends the process at once. Nothing is run that a process runs at its end: whatever ends it may hold the locks of that.
#[allow(unsafe_code)]
pub fn end(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: _exit takes any number and is allowed in a signal handler.
    unsafe {
        libc::_exit(code)
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}
