//! `/proc/<pid>/stat`: one line about a process.

/// What the kernel says of one process.
pub struct ProcessStat<'a> {
    /// The name of its program, at most 15 bytes.
    pub program: &'a [u8],
    pub is_kernel_thread: bool,
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Since boot.
    pub start_ticks: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
}

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

impl<'a> ProcessStat<'a> {
    /// `None` when it is not such a line.
    ///
    /// The program's name is in parentheses and may hold spaces and parentheses
    /// itself. `proc_pid_stat(5)` counts fields from one and the name is the
    /// second, so its field *n* is at *n* - 3 of those after it.
    pub fn parse(line: &'a [u8]) -> Option<ProcessStat<'a>> {
        let name_end = line.iter().rposition(|byte| *byte == b')')?;
        let name_start = line.iter().position(|byte| *byte == b'(')?;
        let program = line.get(name_start + 1..name_end)?;
        let mut fields = std::str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace();
        let mut number = |skip| fields.nth(skip)?.parse::<u64>().ok();
        Some(ProcessStat {
            program,
            is_kernel_thread: number(9 - 3)? & KERNEL_THREAD != 0,
            user_ticks: number(14 - 10)?,
            system_ticks: number(0)?,
            start_ticks: number(22 - 16)?,
            virtual_bytes: number(0)?,
            resident_pages: number(0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let line = b"10 (a b) c) S 1 2 3 4 5 6 7 8 9 10 1677 44 0 0 20 0 1 0 82375 56274944 1981 184\n";
        let stat = ProcessStat::parse(line).unwrap();
        assert_eq!((stat.program, stat.is_kernel_thread), (&b"a b) c"[..], false));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.start_ticks), (1677, 44, 82375));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (56_274_944, 1981));
        assert!(ProcessStat::parse(&line[..40]).is_none());
        assert!(ProcessStat::parse(b"").is_none());
        assert!(ProcessStat::parse(b"1 )x( S").is_none());
    }
}
