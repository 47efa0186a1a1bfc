use super::*;

/// The findings of one file as `line: rule`.
fn found(path: &str, text: &str) -> Vec<String> {
    let rule = |message: &str| message.split(':').next().unwrap_or_default().to_owned();
    check(path, text).iter().map(|finding| format!("{}: {}", finding.line, rule(&finding.message))).collect()
}

const ANYWHERE: &str = "crates/seawall/src/layer.rs";

fn clean(path: &str, text: &str) {
    assert_eq!(found(path, text), Vec::<String>::new(), "{text}");
}

fn function_of(lines: usize) -> String {
    format!("fn long(\n    a: u8,\n) {{\n{}}}\n", "    work();\n".repeat(lines - 4))
}

#[test]
fn names_that_say_nothing_are_found() {
    assert_eq!(found("crates/seawall/src/utils.rs", ""), ["1: name"]);
    assert_eq!(found("crates/seawall/src/common/clock.rs", ""), ["1: name"]);
    clean("crates/seawall/src/types_of_service.rs", "");
}

#[test]
fn long_files_are_found_and_comments_are_free() {
    let long = "use a;\n".repeat(501);
    assert_eq!(found(ANYWHERE, &long), ["501: file length"]);
    clean("crates/seawall/src/layer/tests.rs", &long);
    clean("crates/seawall/tests/drop.rs", &long);
    clean("crates/seawall/benches/admit.rs", &long);
    clean(ANYWHERE, &("use a;\n".repeat(500) + &"// why\n\n".repeat(50)));
}

#[test]
fn long_functions_are_found() {
    clean(ANYWHERE, &function_of(70));
    assert_eq!(found(ANYWHERE, &function_of(71)), ["1: function length"]);
    let indented: String = function_of(71).lines().map(|line| format!("    {line}\n")).collect();
    let method = format!("impl A {{\n{}}}\n", indented.replace("fn long", "pub(crate) async fn long"));
    assert_eq!(found(ANYWHERE, &method), ["2: function length"]);
}

#[test]
fn functions_without_a_body_have_no_length() {
    let signature = "trait A {\n    fn one(&self);\n    fn two<T>(\n        a: T,\n    ) -> u8\n    where\n        T: Clone;\n}\n";
    clean(ANYWHERE, &(signature.to_owned() + &"const A: u8 = 1;\n".repeat(80)));
}

#[test]
fn policies_that_know_each_other_are_found() {
    let core = "crates/seawall-core/src/shed/mod.rs";
    assert_eq!(found(core, "\nuse crate::breaker::Breaker;"), ["2: strangers"]);
    assert_eq!(
        found("crates/seawall-core/src/limit.rs", "let a = crate::ramp::Ramp::new();"),
        ["1: strangers"]
    );
    clean(
        core,
        "use crate::shed::Level;\nuse crate::measure::Window;\nuse crate::limits::Any;\n// like crate::breaker",
    );
    clean("crates/seawall-core/src/gate/mod.rs", "use crate::breaker::Breaker;\nuse crate::shed::Shed;");
}

#[test]
fn the_world_in_core_is_found() {
    let core = "crates/seawall-core/src/gate.rs";
    assert_eq!(found(core, "let now = Instant::now();"), ["1: no world in core"]);
    assert_eq!(found(core, "pub async fn wait() {}"), ["1: no world in core"]);
    assert_eq!(found(core, "use tokio::time;"), ["1: no world in core"]);
    clean(core, "// never Instant::now\n/// unlike tokio\nlet name = \"tokio\";");
    clean(ANYWHERE, "let now = Instant::now();");
}

#[test]
fn sleeping_tests_are_found() {
    assert_eq!(
        found("crates/seawall/tests/drop.rs", "tokio::time::sleep(d).await;"),
        ["1: no sleep in tests"]
    );
    assert_eq!(
        found("crates/seawall/src/layer/tests.rs", "std::thread::sleep(d);"),
        ["1: no sleep in tests"]
    );
    assert_eq!(
        found(ANYWHERE, "#[cfg(test)]\nmod tests {\n    thread::sleep(d);\n}"),
        ["3: no sleep in tests"]
    );
    clean(ANYWHERE, "#[cfg(test)]\nmod tests;\nasync fn wait() {\n    tokio::time::sleep(d).await;\n}");
}

#[test]
fn glob_re_exports_are_found() {
    assert_eq!(found(ANYWHERE, "pub use crate::gate::*;"), ["1: no glob re-export"]);
    assert_eq!(found(ANYWHERE, "pub(crate) use gate::*;"), ["1: no glob re-export"]);
    clean(ANYWHERE, "use super::*;\npub use gate::{Gate, Ticket};");
}

#[test]
fn a_finding_says_what_to_do() {
    let finding = &check("crates/seawall-core/src/shed.rs", "use crate::retry::Budget;")[0];
    assert_eq!(
        finding.message,
        "strangers: `shed` imports `retry`; what both need belongs in `measure`, their order in `gate` or `call`"
    );
}

#[test]
fn strings_and_comments_are_not_code() {
    assert_eq!(code(r#"let a = "// tokio \" tokio"; // tokio"#), r#"let a = "";"#);
    assert_eq!(code(r#"let quote = '"'; call();"#), r#"let quote = '"'; call();"#);
}
