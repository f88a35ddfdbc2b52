//! What the operating system is asked for without the compiler's help: maps of files, memory, and to be told before the
//! process ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::sync::OnceLock;

/// A private map of a whole file, for reading.
///
/// # Errors
/// The system's.
#[allow(unsafe_code)]
pub(crate) fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is private and read-only, and every offset into it is checked against its length, which is that of
    // the file when mapped. What cannot be ruled out is another process changing the file; `weights::mmap` documents it.
    unsafe { memmap2::MmapOptions::new().map_copy_read_only(file) }
}

/// The system's memory, for a program that tells its user where there is none left: see [`crate::memory::on_exhaustion`].
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

/// From now on `lost` is called where a mapped file has lost the bytes that a thread reads, on that thread, with their
/// address. If it returns, the signal ends the process. The first stays.
#[cfg(unix)]
pub(crate) fn on_lost_bytes(lost: fn(usize)) {
    on_signal(libc::SIGBUS, lost);
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
fn end(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: _exit takes any number and is allowed in a signal handler.
    unsafe {
        libc::_exit(code)
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}
