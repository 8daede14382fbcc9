"""The web console: pages for people, live by server-sent events; words of people are signed in the browser.

The rule: nobody's private key comes here, and what came from outside is shown as text alone.
"""
