//! Keys in the file that Amazon's own tools read: `~/.aws/credentials`.

use std::env;
use std::path::PathBuf;

use crate::bucket::settings::S3Credentials;

/// Larger files are nobody's keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The keys of the profile, unless the environment names some itself, as in Thanos.
pub(crate) fn shared_keys() -> Option<S3Credentials> {
    if env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        return None;
    }
    let named = env::var_os("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let path = named.or(home)?;
    if FILE_BYTES_MAX < std::fs::metadata(&path).ok()?.len() {
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    let profile = env::var("AWS_PROFILE").unwrap_or_else(|_absent| "default".to_owned());
    keys_of(&text, &profile)
}

/// The keys below `[profile]`, if both are there.
fn keys_of(text: &str, profile: &str) -> Option<S3Credentials> {
    let (mut access_key, mut secret_key, mut session_token) = (None, None, None);
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            is_ours = name.trim() == profile;
        } else if let (true, Some((key, value))) = (is_ours, line.split_once('=')) {
            let value = Some(value.trim().to_owned());
            match key.trim() {
                "aws_access_key_id" => access_key = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => session_token = value,
                _ => (),
            }
        }
    }
    Some(S3Credentials {
        access_key: access_key?,
        secret_key: secret_key?,
        session_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_profile() {
        let text = "# keys\n[default]\naws_access_key_id = a\naws_secret_access_key=b=\n\n[ other ]\naws_access_key_id=c\naws_secret_access_key=d\naws_session_token=t\nregion=x\n[half]\naws_access_key_id=e\n";
        let keys = keys_of(text, "default").unwrap();
        assert_eq!(
            (keys.access_key.as_str(), keys.secret_key.as_str()),
            ("a", "b=")
        );
        assert_eq!(keys.session_token, None);
        let keys = keys_of(text, "other").unwrap();
        assert_eq!(
            (keys.access_key.as_str(), keys.session_token.as_deref()),
            ("c", Some("t"))
        );
        assert!(keys_of(text, "half").is_none());
        assert!(keys_of(text, "absent").is_none());
    }
}
