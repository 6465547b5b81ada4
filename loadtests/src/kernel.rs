//! What the kernel holds for sockets. It cannot be told apart by process: both ends of a loopback connection are in it, and
//! whatever else the machine does.

use std::fs;

use anyhow::Result;

/// The slabs that grow with each connection.
const SLABS: [&str; 6] = [
    "TCP",
    "sock_inode_cache",
    "filp",
    "dentry",
    "eventpoll_epi",
    "eventpoll_pwq",
];
/// What other programs make grow as well: whoever opens a file.
const SHARED: [&str; 2] = ["filp", "dentry"];
const PAGE: u64 = 4_096;

/// Bytes in the slabs of sockets and, by `sockstat`, in the buffers of TCP; 0 where they may not be read.
pub(crate) fn sockets() -> Result<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").map_or(0, |text| slabs(&text, &[]));
    Ok(slabs + buffers(&fs::read_to_string("/proc/net/sockstat")?))
}

/// The same without what other programs make grow as well: over minutes their files would be taken for sockets.
pub(crate) fn sockets_alone() -> Result<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").map_or(0, |text| slabs(&text, &SHARED));
    Ok(slabs + buffers(&fs::read_to_string("/proc/net/sockstat")?))
}

/// Without those named.
fn slabs(text: &str, without: &[&str]) -> u64 {
    let bytes = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let active: u64 = fields.next()?.parse().ok()?;
        let size: u64 = fields.nth(1)?.parse().ok()?;
        (SLABS.contains(&name) && !without.contains(&name)).then_some(active * size)
    });
    bytes.sum()
}

fn buffers(text: &str) -> u64 {
    let pages = text.lines().find_map(|line| {
        let mut fields = line.strip_prefix("TCP:")?.split_whitespace();
        fields.find(|field| *field == "mem")?;
        fields.next()?.parse::<u64>().ok()
    });
    pages.unwrap_or(0) * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_of_sockets_and_pages_of_buffers_are_summed() {
        let text = "# name <active_objs> <num_objs> <objsize>\nTCP 10 12 2368 1 8\nfilp 2 4 192 1 8\nkmalloc-64 9 9 64 1 1\n";
        assert_eq!(slabs(text, &[]), 10 * 2_368 + 2 * 192);
        assert_eq!(slabs(text, &SHARED), 10 * 2_368);
        let text = "sockets: used 107\nTCP: inuse 77 orphan 0 tw 312 alloc 77 mem 69\nUDP: inuse 0 mem 0\n";
        assert_eq!(buffers(text), 69 * PAGE);
    }
}
