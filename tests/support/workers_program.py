"""A workers service in a process of its own, which a test can kill: ``python workers_program.py SECONDS``.

It takes SECONDS for each bulk and processes whatever it is asked for. Its first line says which port it listens on.
"""

import http.server
import json
import sys
import time

RESULT = {"processed": True, "action": "categorize", "confidence": 0.9, "metadata": {}, "processingTime": 1}


class Answerer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seconds = 0.0

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(Answerer.seconds)
        results = [{"messageId": one, "success": True, "result": RESULT} for one in asked["messageIds"]]
        body = json.dumps({"success": True, "data": {"results": results}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # whoever asked is gone


if __name__ == "__main__":
    Answerer.seconds = float(sys.argv[1])
    with Server(("127.0.0.1", 0), Answerer) as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
