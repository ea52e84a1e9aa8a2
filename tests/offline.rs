//! Nothing leaves the device: a running `acolyte transcribe` opens no socket but local ones.
//!
//! Two independent ways, of which at least one must be possible: the process's open files are polled while it works,
//! and it is run in a network namespace that has no network at all.
#![cfg(target_os = "linux")]

use acolyte_tests::{acolyte, repository, sample};
use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Whether an address of `/proc/net`, in the kernel's byte order and hex, is this machine's own.
fn is_loopback(address: &str) -> bool {
    match address.len() {
        // 127.0.0.0/8: the first number is the last byte.
        8 => address.ends_with("7F"),
        // ::1, and the same IPv4 addresses within IPv6.
        32 => {
            address == "00000000000000000000000001000000"
                || (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"))
        }
        _ => false,
    }
}

/// Whether a row of `/proc/net/{tcp,udp,raw}` is a socket that can reach only this machine: one that is connected to
/// it, or is not connected and bound to it. An unconnected socket bound to any address can send anywhere.
fn is_local(local: &str, remote: &str) -> bool {
    let unconnected = remote.bytes().all(|byte| byte == b'0');
    is_loopback(if unconnected { local } else { remote })
}

/// Inodes of the sockets in a process's network namespace that reach further than this machine.
fn far_sockets(process: &Path) -> HashSet<String> {
    let tables = [
        "tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6",
    ];
    let rows = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(process.join("net").join(table)).ok())
        .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>());
    rows.filter_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let address = |index: usize| fields.get(index)?.split(':').next();
        let inode = fields.get(9)?;
        match is_local(address(1)?, address(2)?) {
            true => None,
            false => Some((*inode).to_owned()),
        }
    })
    .collect()
}

/// Inodes of the sockets that a process has open; `None` where its files cannot be seen.
fn open_sockets(process: &Path) -> Option<HashSet<String>> {
    let files = std::fs::read_dir(process.join("fd")).ok()?;
    let sockets = files.filter_map(|entry| {
        let target = std::fs::read_link(entry.ok()?.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?;
        Some(inode.strip_suffix(']')?.to_owned())
    });
    Some(sockets.collect())
}

/// Enough work that the poll sees all of it: loading, running and writing.
fn transcription() -> Command {
    let mut command = Command::new(acolyte());
    command
        .current_dir(repository())
        .env_remove("CI")
        .args(["transcribe", "--json"])
        .args(std::iter::repeat_n(sample("phone-number.wav"), 20));
    command
}

/// The texts that a transcription wrote.
fn texts(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["text"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Looks at a transcription's sockets while it works; false where the system does not show them.
fn watched() -> bool {
    let mut child = transcription()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Path::new("/proc").join(child.id().to_string());
    let mut looks = 0;
    let mut seen = HashSet::new();
    let status = loop {
        if let Some(open) = open_sockets(&process) {
            looks += 1;
            if !open.is_empty() {
                seen.extend(open.intersection(&far_sockets(&process)).cloned());
            }
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    assert_eq!(seen, HashSet::new(), "sockets that reach other machines");
    looks > 10
}

/// Transcribes without any network; false where the system does not permit such a namespace.
fn isolated() -> bool {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--"]);
        command
    };
    let permitted = unshare().arg("true").output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let program = transcription();
    let alone = unshare()
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(repository())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(alone.status.success(), "without a network: {said}");
    let usual = transcription().output().unwrap();
    assert_eq!(texts(&alone), texts(&usual));
    assert_eq!(texts(&alone).len(), 20);
    true
}

#[test]
fn transcribing_opens_no_socket_to_elsewhere() {
    let (watched, isolated) = (watched(), isolated());
    assert!(
        watched || isolated,
        "neither can the program's open files be watched here nor can it be run without a network"
    );
}

/// The watcher itself: it sees a socket that could reach other machines and lets local ones be.
#[test]
fn the_watcher_tells_far_from_local_sockets() {
    let this = Path::new("/proc/self");
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = UdpSocket::bind("0.0.0.0:0").unwrap();
    if let Some(open) = open_sockets(this) {
        let reaching: HashSet<String> = open.intersection(&far_sockets(this)).cloned().collect();
        let inode = |descriptor: i32| {
            let link = this.join("fd").join(descriptor.to_string());
            let target = std::fs::read_link(link).unwrap();
            let name = target.to_str().unwrap().to_owned();
            name["socket:[".len()..name.len() - 1].to_owned()
        };
        assert!(open.contains(&inode(local.as_raw_fd())));
        assert!(!reaching.contains(&inode(local.as_raw_fd())));
        assert!(reaching.contains(&inode(far.as_raw_fd())));
    }

    let loopback6 = "00000000000000000000000001000000";
    for (local, remote, expected) in [
        ("0100007F", "00000000", true),
        ("0F02000A", "0100007F", true),
        ("0100007F", "0200007F", true),
        ("00000000", "00000000", false),
        ("0F02000A", "08080808", false),
        (loopback6, &"0".repeat(32), true),
        (
            "0000000000000000FFFF00000100007F",
            "0000000000000000FFFF00000100007F",
            true,
        ),
        (&"0".repeat(32), "B80D0120000000000000000001000000", false),
    ] {
        assert_eq!(is_local(local, remote), expected, "{local} to {remote}");
    }
}
