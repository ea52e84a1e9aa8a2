//! Nothing leaves the device: a running `acolyte transcribe` opens no socket but local ones.
//!
//! Two independent ways, of which at least one must be possible: the process's open files are polled while it works,
//! and it is run in a network namespace that has no network at all.
#![cfg(target_os = "linux")]

use acolyte_tests::{acolyte, repository, sample};
use std::collections::HashSet;
use std::process::{Command, Stdio};

/// Inodes of sockets that are connected or bound to anything but this machine, as the kernel lists them for a process.
fn remote_sockets(pid: u32) -> HashSet<String> {
    ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"]
        .iter()
        .filter_map(|kind| std::fs::read_to_string(format!("/proc/{pid}/net/{kind}")).ok())
        .flat_map(|table| {
            table
                .lines()
                .skip(1)
                .filter_map(|line| {
                    let fields: Vec<&str> = line.split_whitespace().collect();
                    let remote = fields.get(2)?.split(':').next()?;
                    // 127.0.0.1 and ::1, in the kernel's byte order; all zero is a listening or unused socket.
                    let local = remote.chars().all(|c| c == '0')
                        || remote == "0100007F"
                        || remote == "00000000000000000000000001000000";
                    (!local).then(|| (*fields.get(9).unwrap_or(&"")).to_owned())
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Inodes of the sockets that a process has open.
fn open_sockets(pid: u32) -> HashSet<String> {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    files
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_string_lossy().into_owned();
            let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

fn transcription() -> Command {
    let mut command = Command::new(acolyte());
    command
        .current_dir(repository())
        .env_remove("CI")
        .args(["transcribe", "--json"])
        // Enough work that the poll sees all of it: loading, running, writing.
        .args(std::iter::repeat_n(sample("phone-number.wav"), 20));
    command
}

#[test]
fn transcribing_opens_no_socket_to_elsewhere() {
    let mut child = transcription()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut looks = 0;
    let mut seen = HashSet::new();
    let status = loop {
        let open = open_sockets(child.id());
        if !open.is_empty() {
            let remote = remote_sockets(child.id());
            seen.extend(open.intersection(&remote).cloned());
        }
        looks += usize::from(std::fs::read_dir(format!("/proc/{}/fd", child.id())).is_ok());
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    assert!(looks > 10, "the process was looked at {looks} times only");
    assert!(seen.is_empty(), "sockets to other machines: {seen:?}");

    // In a namespace without a network the result is the same.
    let plain = transcription().output().unwrap();
    let program = transcription();
    let isolated = Command::new("unshare")
        .args(["--map-root-user", "--net"])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(repository())
        .output();
    if let Ok(isolated) = isolated
        && isolated.status.success()
    {
        let texts = |bytes: &[u8]| -> Vec<String> {
            String::from_utf8_lossy(bytes)
                .lines()
                .map(|line| {
                    let row: serde_json::Value = serde_json::from_str(line).unwrap();
                    row["text"].to_string()
                })
                .collect()
        };
        assert_eq!(texts(&isolated.stdout), texts(&plain.stdout));
    }
}
