use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

/// What a secret that the server makes begins with: API keys, workers' keys, signing secrets, tokens.
const MADE: [&str; 5] = ["crk_", "crw_", "whsec_", "whsk_", "eyJ"];
/// Beginnings alone, as texts about secrets have them, are shorter.
const SHORTEST: usize = 24;
/// Answers that one process keeps, in bytes.
const MOST: usize = 64 * 1_024 * 1_024;

/// What this process leaves for the stage `secrets`, in a folder of `CARILLON_TEST_OUTPUT`. Without one nothing is kept.
struct Kept {
    folder: Option<PathBuf>,
    secrets: Mutex<Option<File>>,
    answers: Mutex<(Option<File>, usize)>,
    commands: Mutex<Option<File>>,
}

static KEPT: LazyLock<Kept> = LazyLock::new(|| {
    let folder = std::env::var_os("CARILLON_TEST_OUTPUT").map(|output| PathBuf::from(output).join("secrets"));
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).expect("the output folder can be written");
    }
    let open = |what: &str| {
        let path = folder.as_ref()?.join(format!("{what}-{}", std::process::id()));
        Some(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("the file opens"),
        )
    };
    Kept {
        folder: folder.clone(),
        secrets: Mutex::new(open("secrets")),
        answers: Mutex::new((open("answers"), 0)),
        commands: Mutex::new(open("commands")),
    }
});

/// Notes a secret that a test chose: nothing that a run prints, logs or answers may hold it.
pub(crate) fn secret(kind: &str, text: &str) {
    if let Some(file) = KEPT.secrets.lock().expect("nobody panicked").as_mut() {
        writeln!(file, "{kind}\t{text}").expect("the file is written");
    }
}

/// Notes the secrets in a text by which the server handed them out, the one time that it may.
pub(crate) fn made_in(text: &str) -> bool {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.+/=".contains(c)));
    let mut any = false;
    for word in words.filter(|word| word.len() >= SHORTEST) {
        if let Some(kind) = MADE.into_iter().find(|kind| word.starts_with(kind)) {
            secret(kind, word);
            any = true;
        }
    }
    any
}

/// Keeps an answer. One with status 201 may bring a secret: that it does, is what it is for.
pub(crate) fn answered(status: u16, text: &str) {
    if status == 201 {
        if let Some(ticket) = ticket(text) {
            return secret("ticket", &ticket);
        }
        if made_in(text) {
            return;
        }
    }
    let mut answers = KEPT.answers.lock().expect("nobody panicked");
    let (file, size) = &mut *answers;
    if let Some(file) = file
        && *size < MOST
    {
        *size += text.len();
        writeln!(file, "{status} {text}").expect("the file is written");
    }
}

/// Keeps what a command printed.
pub(crate) fn printed(text: &str) {
    if let Some(file) = KEPT.commands.lock().expect("nobody panicked").as_mut() {
        file.write_all(text.as_bytes()).expect("the file is written");
    }
}

/// Where another server of this process is to log to.
pub(crate) fn server_log() -> Option<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    KEPT.folder
        .as_ref()
        .map(|folder| folder.join(format!("server-{}-{number}.log", std::process::id())))
}

fn ticket(text: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(text).ok()?;
    answer["ticket"].as_str().map(str::to_owned)
}
