// A step of a Jenkins shared library whose library path is examples/jenkins: it fails the build when a kernel is broken.
//
//   bsdsymsCheck kernel: 'vmlinux', url: 'https://bsdsyms.example', credentials: 'bsdsyms-token', require: 'symbols pv'
//
// credentials: the id of a "secret text", if the service wants a token. require: separated by spaces; may be left out.
def call(Map args) {
  def check = {
    withEnv(["KERNEL=${args.kernel}", "SERVICE_URL=${args.url}", "BSDSYMS_REQUIRE=${args.require ?: ''}"]) {
      // 1: the kernel is broken. 2: the service could not be asked. curl waits as long as a 503 or 429 says.
      def failed = sh(returnStatus: true, script: '''
        rm -f bsdsyms.xml
        query=
        for name in ${BSDSYMS_REQUIRE:-}; do query="$query&require=$name"; done
        id=$(printf %s "$BUILD_TAG" | tr -c 'A-Za-z0-9_.:-' - | cut -c 1-64)
        status=$(echo "${BSDSYMS_TOKEN:+oauth2-bearer = $BSDSYMS_TOKEN}" |
          curl --config - -sS -T "$KERNEL" --max-time 600 \\
            --retry "${BSDSYMS_RETRIES:-10}" --retry-all-errors --retry-max-time 600 \\
            -H "X-Request-Id: $id" -H 'Accept: application/xml, text/plain;q=0.5' \\
            -o bsdsyms.xml -w '%{http_code}' "$SERVICE_URL/check?${query#&}") || status=000
        case $status in
        200) exit 0 ;;
        422) failed=1 ;;
        *) failed=2 && echo "$SERVICE_URL could not be asked (status $status):" >&2 ;;
        esac
        [ -f bsdsyms.xml ] || exit "$failed"
        grep -q '<testsuites' bsdsyms.xml || { cat bsdsyms.xml >&2 && rm bsdsyms.xml && exit "$failed"; }
        sed -n 's/.*<failure type="\\([^"]*\\)" message="\\([^"]*\\)".*/FAILED: \\1: \\2/p' bsdsyms.xml >&2
        exit "$failed"
      ''')
      junit allowEmptyResults: true, testResults: 'bsdsyms.xml'
      if (failed == 1) error('bsdsyms: the kernel is broken')
      if (failed != 0) error('bsdsyms: the service could not be asked')
    }
  }
  if (args.credentials) {
    withCredentials([string(credentialsId: args.credentials, variable: 'BSDSYMS_TOKEN')], check)
  } else {
    check()
  }
}
