"""Work for many machines, which Ray distributes (``pip install sppnet[ray]``); nothing else imports Ray."""
