//! The lab's report in a real browser: it draws its charts, fits a phone, and asks nobody for anything.

use std::path::Path;
use std::process::Command;

/// What stands around the page: a phone's or a desktop's width, and a line of what was found.
const AROUND: &str = r#"<!doctype html><meta charset="utf-8"><body><script>
var frame=document.createElement("iframe");
frame.style.cssText="border:0;height:900px;width:WIDTHpx";
frame.onload=function(){
var page=frame.contentDocument,root=page.documentElement;
document.body.insertAdjacentHTML("beforeend","<pre id=found>charts="+page.querySelectorAll(".uplot canvas").length
+" over="+(root.scrollWidth-root.clientWidth)+" trouble="+page.body.dataset.trouble+" pictures="+page.querySelectorAll("svg[role=img]").length
+" fetched="+frame.contentWindow.performance.getEntriesByType("resource").length+"</pre>");
};
frame.srcdoc=PAGE;
document.body.append(frame);
</script>"#;

/// Notes whatever goes wrong in the page.
const WATCH: &str = r#"<script>window.trouble=0;window.onerror=function(){trouble++};
document.addEventListener("securitypolicyviolation",function(){trouble++});
addEventListener("load",function(){document.body.dataset.trouble=trouble})</script>"#;

fn browser() -> &'static str {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|program| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    found.expect(
        "no browser to look at the report with: `apt-get install chromium`, as `cargo xtask test` does",
    )
}

/// The document that is there once its scripts have run.
fn dom(browser: &str, file: &Path) -> String {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--virtual-time-budget=10000", "--window-size=1400,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}/chromium", env!("CARGO_TARGET_TMPDIR")))
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_report_is_drawn_and_fits_a_phone() {
    let browser = browser();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let page = folder.join("browser.html");
    let played = Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["lab", "run", "retry-storm", "--seeds", "1", "--html", page.to_str().unwrap()])
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&page)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&played.stderr)));
    assert!(text.len() < 300_000, "{} bytes", text.len());
    let watched = text.replacen("<title>", &format!("{WATCH}<title>"), 1);
    let literal = serde_json::Value::from(watched).to_string().replace('<', "\\u003c");
    for width in [390, 1280] {
        let around = folder.join(format!("browser-{width}.html"));
        std::fs::write(&around, AROUND.replace("WIDTH", &width.to_string()).replace("PAGE", &literal))
            .unwrap();
        let dom = dom(browser, &around);
        let found =
            dom.split("<pre id=\"found\">").nth(1).unwrap_or_else(|| panic!("nothing was found: {dom}"));
        let found = found.split("</pre>").next().unwrap();
        // Two charts of goodput and four of one seed; two maps and two call graphs besides.
        assert_eq!(found, "charts=6 over=0 trouble=0 pictures=10 fetched=0", "{width} wide");
    }
}
