"""For gunicorn with gevent and --preload: what is made before the fork must be made of greenlets already."""

from gevent import monkey

monkey.patch_all()
