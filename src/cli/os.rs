//! Calls into the operating system that the compiler cannot check: memory, and callbacks before the process ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;

/// The system's memory allocator, for a program that reports to its user when no memory is left: see [`on_exhaustion`].
#[derive(Debug, Clone, Copy)]
pub struct Told;

/// The callback of [`on_exhaustion`].
static EXHAUSTED: OnceLock<fn(Option<usize>) -> i32> = OnceLock::new();

/// Returns the system's answer to a request for `bytes`. If the request failed, it calls the callback, if one is set.
#[inline]
fn given(at: *mut u8, bytes: usize) -> *mut u8 {
    if at.is_null() {
        exhausted(Some(bytes));
    }
    at
}

/// Calls the callback of [`on_exhaustion`], if one is set, and ends the process with the callback's exit code.
#[cold]
fn exhausted(bytes: Option<usize>) {
    if let Some(tell) = EXHAUSTED.get() {
        end(tell(bytes));
    }
}

// SAFETY: every call goes to the system's allocator, which has the same contract.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Told {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        given(unsafe { System.alloc(layout) }, layout.size())
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        given(unsafe { System.realloc(at, layout, bytes) }, bytes)
    }
    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Sets the callback for exhausted memory. When an allocation fails, `tell` is called with the requested number of
/// bytes, and the process ends with the exit code that `tell` returns. The program's allocator must be [`Told`]. If the
/// standard library aborts the process, for example because a stack is full, the library has already printed the
/// reason; `tell` is then called with `None`. The callback holds for the whole process; a second call has no effect.
pub fn on_exhaustion(tell: fn(Option<usize>) -> i32) {
    let _ = EXHAUSTED.set(tell); // a second call has no effect
    #[cfg(unix)]
    on_signal(libc::SIGABRT, |_| exhausted(None));
}

/// The callback of [`on_lost_file`].
static LOST: OnceLock<fn(&str)> = OnceLock::new();

/// Sets the callback for lost files. When a thread reads bytes that a mapped file no longer has, `report` is called on
/// this thread with the file's path. If `report` returns, the signal ends the process. A second call has no effect. On
/// systems without SIGBUS this function does nothing.
pub fn on_lost_file(report: fn(&str)) {
    let _ = LOST.set(report); // a second call has no effect
    // A thread raises this signal by its own read of a mapping. During such a read, the thread holds no lock and is
    // inside no allocation, so neither can be left half done.
    #[cfg(unix)]
    on_signal(libc::SIGBUS, |at| {
        if let (Some(report), Some(file)) = (LOST.get(), mapped_at(at)) {
            report(&file);
        }
    });
}

/// The path of the file that is mapped at this address; relative to the working folder if the file is inside that
/// folder.
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

/// Parses a line of `maps` that describes a mapped file: its address range and its path.
#[cfg(unix)]
fn mapping(line: &str) -> Option<((usize, usize), &str)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let path = &line[line.find('/')?..];
    Some(((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?), path))
}

/// Sets `told` as the callback of a signal. The callback runs on the thread that raises the signal and receives the
/// address that caused the signal. Afterwards the signal has its default effect.
#[cfg(unix)]
#[allow(unsafe_code)]
fn on_signal(signal: libc::c_int, told: fn(usize)) {
    static TOLD: [OnceLock<fn(usize)>; 32] = [const { OnceLock::new() }; 32];
    extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the system passes a valid siginfo_t; if the signal has no address, no callback uses
        // the value.
        let at = unsafe { (*info).si_addr() } as usize;
        if let Some(told) = TOLD.get(signal as usize).and_then(OnceLock::get) {
            told(at);
        }
        // SAFETY: the default action is always valid. After the handler, the read is tried again, or the abort
        // continues.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let Some(place) = TOLD.get(signal as usize) else { return };
    let _ = place.set(told);
    // SAFETY: an all-zero sigaction is valid; the handler has the type that SA_SIGINFO requires, and it lives forever.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Ends the process at once, without exit handlers: the interrupted thread may hold locks that an exit handler needs.
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
